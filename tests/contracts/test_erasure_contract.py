"""What every store promises of users who are erased (`recsys.ports.FeatureStore.erase_user`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread

import numpy as np

from recsys.events import hash64, user_hash
from recsys.ports import Store
from recsys.storage.event_export import export_events
from tests.contracts.events import LATER, NOON, NOON_MS, event, past, shown_to
from tests.contracts.test_feature_store_contract import ODD_IDS, ids

NOTHING = (0, 0, 0, 0, 0)


def hashes(*item_ids: str) -> np.ndarray:
    return np.array([hash64(item_id) for item_id in item_ids], np.uint64)


def logged(store: Store) -> list[str]:
    return [interaction.event_id for _, interaction in store.read()]


def counts(receipt: object) -> tuple[int, ...]:
    return tuple(getattr(receipt, f"n_{part}") for part in ("states", "served", "events", "exposures", "merges"))


def test_an_erased_user_is_nowhere_and_the_others_are_whole(store: Store) -> None:
    store.append([event(number, user="ann" if number % 3 else "bob") for number in range(9)])
    store.append_exposures([shown_to("ann" if number % 2 else "bob", number) for number in range(5)])
    store.append_exposure(replace(shown_to("", 5), user_id=None))
    store.block("ann", ["i1"])
    store.note_served("ann", hashes("i1"), NOON_MS, 3_600)
    receipt = store.erase_user("ann", now=LATER)
    assert counts(receipt) == (1, 1, 6, 2, 0)
    assert (receipt.user_hash, receipt.erased_at) == (user_hash("ann"), LATER)
    state = store.user_state("ann", with_served=True)
    assert (state.version, state.history, len(state.seen), len(state.blocked), len(state.served)) == (0, (), 0, 0, 0)
    assert logged(store) == ["e0", "e3", "e6"]
    assert [e.recommendation_id for _, e in store.exposures()] == ["r0", "r2", "r4", "r5"]
    assert ids(store.user_state("bob").history) == ["i0", "i3", "i6"]


def test_erasing_again_or_nobody_is_a_receipt_of_zeros(store: Store) -> None:
    store.append([event(1)])
    store.erase_user("ann", now=LATER)
    assert counts(store.erase_user("ann", now=LATER)) == NOTHING
    assert counts(store.erase_user("nobody", now=LATER)) == NOTHING


def test_what_happened_before_an_erasure_never_comes_back(store: Store) -> None:
    store.append([event(1), event(2)])
    store.erase_user("ann", now=LATER)
    late = [event(1), event(2), event(3), replace(event(4), occurred_at=LATER)]
    assert store.append([*late, event(5, user="bob")]) == ["rejected"] * 4 + ["accepted"]
    assert store.append_exposures([shown_to("ann", 1), shown_to("bob", 2)], served_keep_s=60).n_dropped == 1
    store.append_exposure(shown_to("ann", 3))
    store.note_served("ann", hashes("i1"), NOON_MS, 3_600)
    store.import_histories([("ann", [past(1), past(2, ms=NOON_MS)])])
    assert counts(store.erase_user("ann", now=LATER)) == NOTHING
    assert logged(store) == ["e5"]
    assert [e.recommendation_id for _, e in store.exposures()] == ["r2"]
    assert store.user_state("ann", with_served=True).version == 0


def test_an_event_whose_clock_was_ahead_does_not_come_back_either(store: Store) -> None:
    ahead = replace(event(1), occurred_at=LATER + timedelta(minutes=50))
    store.append([ahead])
    store.append_exposure(shown_to("ann", 1, LATER + timedelta(minutes=55)))
    store.erase_user("ann", now=LATER)
    assert store.append([ahead]) == ["rejected"]
    assert store.append_exposures([shown_to("ann", 1, LATER + timedelta(minutes=55))]).n_dropped == 1
    assert store.append([replace(event(2), occurred_at=LATER + timedelta(hours=1))]) == ["accepted"]


def test_who_comes_back_is_a_new_user(store: Store) -> None:
    store.append([event(1)])
    store.block("ann", ["i9"])
    before = store.user_state("ann")
    store.erase_user("ann", now=NOON + timedelta(minutes=5))
    assert store.append([event(1), event(6), event(7)]) == ["rejected", "accepted", "accepted"]
    after = store.user_state("ann")
    assert (ids(after.history), len(after.blocked)) == (["i6", "i7"], 0)
    assert after.version != before.version
    assert store.append_exposures([shown_to("ann", 1, LATER)], served_keep_s=60).n_stored == 1
    assert len(store.user_state("ann", with_served=True).served) == 2


def test_an_erasure_is_not_undone_by_an_earlier_one_that_comes_late(store: Store) -> None:
    store.erase_user("ann", now=LATER)
    store.erase_user("ann", now=NOON)
    assert store.append([event(1)]) == ["rejected"]


def test_all_who_were_merged_into_a_user_are_erased_with_them(store: Store) -> None:
    store.append([event(1, user="a1"), event(2, user="a2"), event(3, user="a3"), event(4), event(5, user="bob")])
    for source, target in (("a1", "a2"), ("a2", "ann"), ("a3", "ann"), ("bob", "b2")):
        store.merge_users(source, target, now=NOON + timedelta(hours=1))
    store.append([event(6, user="a1")])
    receipt = store.erase_user("ann", now=LATER)
    assert counts(receipt) == (2, 0, 5, 0, 3)
    assert logged(store) == ["e5"]
    assert [merge.source_user_id for merge in store.merges()] == ["bob"]
    assert store.user_state("a1").version == 0
    assert store.append([event(number, user="a2") for number in (7, 8)]) == ["rejected", "rejected"]
    assert ids(store.user_state("b2").history) == ["i5"]


def test_users_whose_ids_hold_one_another_are_told_apart(store: Store) -> None:
    users = ("an", "ann", "anna", *ODD_IDS)
    store.append([event(number, user=user) for number, user in enumerate(users)])
    store.append_exposures([shown_to(user, number) for number, user in enumerate(users)])
    for gone, user in enumerate(users, start=1):
        assert counts(store.erase_user(user, now=LATER)) == (1, 0, 1, 1, 0)
        assert [e.user_id for _, e in store.read()] == list(users[gone:])
        assert [e.user_id for _, e in store.exposures()] == list(users[gone:])


def test_a_user_with_very_many_records_is_erased_whole(store: Store) -> None:
    for start in range(0, 2_400, 400):
        store.append([event(n, user="ann" if n % 5 else "bob") for n in range(start, start + 400)])
        store.append_exposures([shown_to("ann" if n % 5 else "bob", n) for n in range(start, start + 400)])
    assert counts(store.erase_user("ann", now=LATER + timedelta(days=9))) == (1, 0, 1_920, 1_920, 0)
    assert logged(store) == [f"e{n}" for n in range(0, 2_400, 5)]
    assert len(list(store.exposures())) == 480


def test_an_export_goes_on_after_an_erasure(store: Store, tmp_path: Path) -> None:
    store.append([event(number, user=f"u{number % 2}") for number in range(10)])
    assert export_events(store, tmp_path).n_events == 10
    store.append([event(10, user="u1"), event(11, user="u0"), event(12, user="u1")])
    store.erase_user("u1", now=LATER)
    store.append([event(13, user="u0")])
    report = export_events(store, tmp_path)
    assert (report.n_events, report.started_anew) == (2, False)
    assert export_events(store, tmp_path).n_events == 0


def test_the_writers_beside_an_erasure_bring_nothing_old_back(store: Store) -> None:
    started = Barrier(3)
    statuses: list[str] = []

    def write(first: int) -> None:
        started.wait()
        for number in range(first, first + 60):
            statuses.extend(store.append([event(number % 50, user="ann"), event(number + 1_000, user="bob")]))
            store.append_exposures([shown_to("ann", number), shown_to("bob", number)], served_keep_s=60)

    threads = [Thread(target=write, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    started.wait()
    store.erase_user("ann", now=LATER)
    for thread in threads:
        thread.join()
    assert {e.user_id for _, e in store.read()} == {"bob"}
    assert {e.user_id for _, e in store.exposures()} == {"bob"}
    assert store.user_state("ann", with_served=True).version == 0
    assert len(store.user_state("ann", with_served=True).served) == 0
    assert len(store.user_state("bob").seen) == 120
    assert len(list(store.exposures())) == 120


def test_a_receipt_names_what_the_caller_knows_to_remain(store: Store) -> None:
    receipt = store.erase_user("ann", now=LATER)
    assert receipt.and_not("files below data/events").not_erased == (*receipt.not_erased, "files below data/events")
