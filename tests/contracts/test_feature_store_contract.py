"""What every feature store promises (`recsys.ports.FeatureStore`)."""

from __future__ import annotations

import numpy as np

from recsys.events import hash64
from recsys.ports import LiveItem, Store
from recsys.types import HistoryItem
from tests.contracts.events import NOON_MS, event, past

ODD_IDS = ("a/b:c", "🎬 the film", "x" * 256, "日本" * 128, " ", "?&#%", "nul\0inside", "{u}:v", "'; drop table--")


def ids(items: tuple[HistoryItem, ...]) -> list[str]:
    return [item.item_id for item in items]


def test_an_unknown_user_has_the_empty_state(store: Store) -> None:
    state = store.user_state("nobody")
    assert (state.history, state.version, len(state.seen), len(state.blocked)) == ((), 0, 0, 0)
    assert state.seen.dtype == state.blocked.dtype == np.uint64


def test_an_event_is_in_the_very_next_state(store: Store) -> None:
    store.append([event(1)])
    state = store.user_state("ann")
    assert state.history == (HistoryItem("i1", "interaction", NOON_MS + 60_000, hash64("e1")),)
    assert state.seen.tolist() == [hash64("i1")]
    assert store.user_state("bob").history == ()


def test_history_is_the_latest_200_and_seen_is_all(store: Store) -> None:
    store.append([event(number) for number in range(150)])
    store.append([event(number) for number in range(150, 260)])
    state = store.user_state("ann")
    assert ids(state.history) == [f"i{number}" for number in range(60, 260)]
    assert state.seen.tolist() == sorted(hash64(f"i{number}") for number in range(260))


def test_a_late_event_takes_its_place_in_time(store: Store) -> None:
    store.append([event(1), event(3)])
    store.append([event(2)])
    assert ids(store.user_state("ann").history) == ["i1", "i2", "i3"]


def test_events_of_one_moment_stand_in_order_of_arrival(store: Store) -> None:
    store.append([event(9, minute=5), event(4, minute=5)])
    store.append([event(7, minute=5)])
    assert ids(store.user_state("ann").history) == ["i9", "i4", "i7"]


def test_an_event_later_than_200_others_is_seen_but_not_in_the_history(store: Store) -> None:
    store.append([event(number) for number in range(1, 201)])
    store.append([event(0)])
    state = store.user_state("ann")
    assert ids(state.history) == [f"i{number}" for number in range(1, 201)]
    assert hash64("i0") in state.seen


def test_ten_thousand_seen_items_come_back_sorted(store: Store) -> None:
    store.import_histories([("ann", [past(number, ms=number + 1) for number in range(10_000)])])
    state = store.user_state("ann")
    assert np.array_equal(state.seen, np.sort(np.array([hash64(f"i{n}") for n in range(10_000)], np.uint64)))
    assert ids(state.history) == [f"i{number}" for number in range(9_800, 10_000)]


def test_any_utf8_id_stays_what_it_is(store: Store) -> None:
    for number, odd in enumerate(ODD_IDS):
        store.append([event(number, user=odd, item=odd)])
        store.block(odd, [odd])
        store.upsert_items([LiveItem(odd, {"title": odd}, {}, {})])
    for odd in ODD_IDS:
        state = store.user_state(odd)
        assert (ids(state.history), state.seen.tolist(), state.blocked.tolist()) == (
            [odd],
            [hash64(odd)],
            [hash64(odd)],
        )
    assert [item.item_id for item in store.items_since(0)[1]] == list(ODD_IDS)


def test_event_types_and_times_come_back(store: Store) -> None:
    past_items = [HistoryItem(f"i{n}", f"type {n % 300}", -5 + n, 2**64 - 1 - n) for n in range(200)]
    store.import_histories([("ann", past_items)])
    assert store.user_state("ann").history == tuple(past_items)


def test_version_changes_exactly_when_the_state_does(store: Store) -> None:
    versions = [store.user_state("ann").version]
    store.append([event(1)])
    versions.append(store.user_state("ann").version)
    store.append([event(2, item="i1")])
    versions.append(store.user_state("ann").version)
    store.block("ann", ["i9"])
    versions.append(store.user_state("ann").version)
    assert len(set(versions)) == 4
    store.append([event(1)])
    store.block("ann", ["i9"])
    store.import_histories([("ann", [past(1)])])
    assert store.user_state("ann").version == versions[-1]


def test_blocked_items_add_up_and_outlive_events(store: Store) -> None:
    store.block("ann", ["i1", "i2"])
    store.append([event(1)])
    store.block("ann", ["i2", "i3"])
    store.block("ann", [])
    state = store.user_state("ann")
    assert state.blocked.tolist() == sorted(hash64(item) for item in ("i1", "i2", "i3"))
    assert ids(state.history) == ["i1"]


def test_an_import_is_the_number_of_its_users_and_no_event(store: Store) -> None:
    assert store.import_histories((f"u{n}", [past(n)]) for n in range(1_234)) == 1_234
    assert ids(store.user_state("u1233").history) == ["i1233"]
    assert list(store.read()) == []


def test_an_import_joins_what_live_events_left(store: Store) -> None:
    store.append([event(2), event(5)])
    store.import_histories(
        [("ann", [past(1, ms=NOON_MS), past(2, ms=NOON_MS + 120_000), past(3, ms=NOON_MS + 180_000)])]
    )
    assert ids(store.user_state("ann").history) == ["i1", "i2", "i3", "i5"]


def test_a_second_import_changes_nothing_even_where_times_are_unknown(store: Store) -> None:
    no_times = [past(number) for number in range(300)]
    store.import_histories([("ann", no_times)])
    store.append([event(number) for number in range(300, 350)])
    once = store.user_state("ann")
    store.import_histories([("ann", no_times)])
    again = store.user_state("ann")
    assert ids(once.history) == [f"i{number}" for number in range(150, 350)]
    assert (again.history, again.version) == (once.history, once.version)


def test_an_imported_event_that_comes_again_live_counts_once(store: Store) -> None:
    store.import_histories([("ann", [past(1, ms=NOON_MS + 60_000)])])
    assert store.append([event(1)]) == ["accepted"]
    assert ids(store.user_state("ann").history) == ["i1"]


def test_an_import_of_a_user_in_parts_keeps_their_order(store: Store) -> None:
    store.import_histories([("ann", [past(1), past(2)]), ("ann", [past(3)])])
    assert ids(store.user_state("ann").history) == ["i1", "i2", "i3"]


def test_an_upserted_item_comes_back_as_it_was(store: Store) -> None:
    vector = np.array([0.1, -2.5, 3e-8], np.float32)
    fields = {
        "title": "Dune",
        "categories": ["Sci-Fi"],
        "price": 9.5,
        "attributes": {"year": 2021, "isan": 10**30, "note": None},
    }
    version = store.upsert_items(
        [LiveItem("i1", fields, {"image": vector, "text": -vector}, {"image": "s1", "text": "s2"})]
    )
    now, (item,) = store.items_since(0)
    assert (now, item.version, item.item_id, item.deleted) == (version, version, "i1", False)
    assert (dict(item.fields), dict(item.space_ids)) == (fields, {"image": "s1", "text": "s2"})
    assert np.array_equal(item.vectors["image"], vector)
    assert np.array_equal(item.vectors["text"], -vector)
    assert item.vectors["image"].dtype == np.float32


def test_items_since_brings_each_item_once_in_its_latest_form(store: Store) -> None:
    assert store.items_since(0) == (0, ())
    first = store.upsert_items([LiveItem(f"i{n}", {"title": "old"}, {}, {}) for n in range(3)])
    second = store.upsert_items([LiveItem("i1", {"title": "new"}, {}, {}), LiveItem("i9", {}, {}, {}, deleted=True)])
    assert second > first
    now, everything = store.items_since(0)
    assert (now, [item.item_id for item in everything]) == (second, ["i0", "i2", "i1", "i9"])
    assert [item.version for item in everything] == sorted({item.version for item in everything})
    now, changed = store.items_since(first)
    assert (now, [(item.item_id, item.deleted) for item in changed]) == (second, [("i1", False), ("i9", True)])
    assert changed[0].fields == {"title": "new"}
    assert store.items_since(second) == (second, ())


def test_many_items_come_back_in_the_order_of_their_writing(store: Store) -> None:
    store.upsert_items([LiveItem(f"i{n}", {"n": n}, {}, {}) for n in range(2_500)])
    now, items = store.items_since(100)
    assert now == 2_500
    assert [item.fields["n"] for item in items] == list(range(100, 2_500))


def test_a_version_of_a_store_that_was_lost_brings_all_items(store: Store) -> None:
    version = store.upsert_items([LiveItem("i1", {}, {}, {})])
    now, items = store.items_since(version + 1_000)
    assert (now, len(items)) == (version, 1)


def test_it_answers(store: Store) -> None:
    store.ping()
