"""What every store promises of users: what they were served, what is blocked, and who they turn out to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from threading import Barrier, Thread

import numpy as np

from recsys.events import UserMerge, hash64
from recsys.ports import LiveItem, Store
from tests.contracts.events import LATER, NOON, NOON_MS, event, past, shown_to
from tests.contracts.test_event_log_contract import exposure
from tests.contracts.test_feature_store_contract import ids


def hashes(*item_ids: str) -> np.ndarray:
    return np.array([hash64(item_id) for item_id in item_ids], np.uint64)


# What was served


def test_what_was_served_comes_with_the_state_when_asked_for(store: Store) -> None:
    store.append([event(1)])
    store.note_served("ann", hashes("i7", "i8"), NOON_MS, 3_600)
    store.note_served("ann", hashes("i9"), NOON_MS + 5, 3_600)
    state = store.user_state("ann", with_served=True)
    assert state.served.tolist() == hashes("i7", "i8", "i9").tolist()
    assert state.served_at_ms.tolist() == [NOON_MS, NOON_MS, NOON_MS + 5]
    assert (state.served.dtype, state.served_at_ms.dtype) == (np.uint64, np.int64)
    assert ids(state.history) == ["i1"]
    assert len(store.user_state("ann").served) == 0


def test_what_was_served_changes_no_version_and_needs_no_state(store: Store) -> None:
    store.note_served("new", hashes("i1"), NOON_MS, 3_600)
    state = store.user_state("new", with_served=True)
    assert (state.version, state.history, state.served.tolist()) == (0, (), hashes("i1").tolist())
    assert len(store.user_state("other", with_served=True).served) == 0


def test_the_last_thousand_served_are_kept(store: Store) -> None:
    for at in range(0, 1_500, 500):
        store.note_served("ann", np.arange(at, at + 500, dtype=np.uint64), at, 3_600)
    state = store.user_state("ann", with_served=True)
    assert state.served.tolist() == list(range(500, 1_500))
    assert state.served_at_ms.tolist() == [500] * 500 + [1_000] * 500
    store.note_served("ann", np.arange(2_000, dtype=np.uint64), 1, 3_600)
    assert store.user_state("ann", with_served=True).served.tolist() == list(range(1_000, 2_000))


def test_a_batch_of_exposures_may_count_as_served(store: Store) -> None:
    store.append_exposures([exposure(number) for number in range(4)])
    assert len(store.user_state("ann", with_served=True).served) == 0
    store.append_exposures([exposure(2), exposure(3), shown_to("bob", 8)], served_keep_s=60)
    for user in ("ann", "bob"):
        assert store.user_state(user, with_served=True).served.tolist() == hashes("i1", "i2").tolist()


# Blocking, deleting


def test_an_unblocked_item_may_be_shown_again(store: Store) -> None:
    store.block("ann", ["i1", "i2", "i3"])
    blocked = store.user_state("ann")
    store.unblock("ann", ["i2", "never blocked"])
    after = store.user_state("ann")
    assert after.blocked.tolist() == sorted(hashes("i1", "i3").tolist())
    assert after.version != blocked.version
    store.unblock("ann", ["i2"])
    store.unblock("nobody", ["i2"])
    assert store.user_state("ann").version == after.version
    assert store.user_state("nobody").version == 0
    store.block("ann", ["i2"])
    assert store.user_state("ann").version not in (blocked.version, after.version)


def test_a_deleted_item_keeps_nothing_and_comes_back_by_an_upsert(store: Store) -> None:
    whole = LiveItem("i1", {"title": "Dune"}, {"text": np.ones(3, np.float32)}, {"text": "s"})
    before = store.upsert_items([whole, replace(whole, item_id="i2")])
    version = store.delete_items(["i1", "never there"])
    now, items = store.items_since(before)
    assert now == version
    assert [(i.item_id, i.deleted, dict(i.fields), dict(i.vectors)) for i in items] == [
        ("i1", True, {}, {}),
        ("never there", True, {}, {}),
    ]
    store.upsert_items([whole])
    assert [(item.item_id, item.deleted) for item in store.items_since(version)[1]] == [("i1", False)]
    assert store.delete_items([]) == version + 1


# Merging


def test_an_anonymous_user_becomes_a_known_one(store: Store) -> None:
    store.append([event(1, user="anon"), event(3, user="anon"), event(2), event(4)])
    store.block("anon", ["b1"])
    store.block("ann", ["b2"])
    merged = store.merge_users("anon", "ann", now=LATER)
    state = store.user_state("ann")
    assert ids(state.history) == ids(merged.history) == ["i1", "i2", "i3", "i4"]
    assert (state.version, state.seen.tolist()) == (merged.version, sorted(hashes("i1", "i2", "i3", "i4").tolist()))
    assert state.blocked.tolist() == sorted(hashes("b1", "b2").tolist())
    assert store.user_state("anon").version == 0
    assert list(store.merges()) == [UserMerge("anon", "ann", LATER)]
    assert [e.user_id for _, e in store.read()] == ["anon", "anon", "ann", "ann"]


def test_at_the_same_time_the_targets_come_first_and_events_of_both_count_once(store: Store) -> None:
    store.import_histories([("anon", [past(1, ms=5), past(2, ms=5)]), ("ann", [past(3, ms=5), past(1, ms=5)])])
    assert ids(store.merge_users("anon", "ann", now=LATER).history) == ["i3", "i1", "i2"]


def test_a_merge_keeps_the_latest_200_and_all_that_was_seen(store: Store) -> None:
    store.append([event(number, user="anon" if number % 2 else "ann") for number in range(500)])
    state = store.merge_users("anon", "ann", now=LATER)
    assert ids(state.history) == [f"i{number}" for number in range(300, 500)]
    assert len(state.seen) == 500


def test_merging_again_is_the_same_as_once(store: Store) -> None:
    store.append([event(1, user="anon"), event(2)])
    once = store.merge_users("anon", "ann", now=LATER)
    again = store.merge_users("anon", "ann", now=LATER + timedelta(days=1))
    assert (again.version, again.history) == (once.version, once.history)
    assert list(store.merges()) == [UserMerge("anon", "ann", LATER)]


def test_merging_with_oneself_or_with_nobody_changes_nothing(store: Store) -> None:
    store.append([event(1)])
    before = store.user_state("ann")
    assert store.merge_users("ann", "ann", now=LATER).version == before.version
    assert list(store.merges()) == []
    assert store.merge_users("nobody", "ann", now=LATER).version == before.version
    assert store.merge_users("nobody", "no one", now=LATER).version == 0
    assert [merge.source_user_id for merge in store.merges()] == ["nobody", "nobody"]


def test_later_events_of_the_source_are_the_sources_until_it_is_merged_again(store: Store) -> None:
    store.append([event(1, user="anon")])
    store.merge_users("anon", "ann", now=NOON)
    store.append([event(2, user="anon")])
    assert ids(store.user_state("anon").history) == ["i2"]
    assert ids(store.user_state("ann").history) == ["i1"]
    store.merge_users("anon", "ann", now=LATER)
    assert ids(store.user_state("ann").history) == ["i1", "i2"]
    assert [merge.merged_at for merge in store.merges()] == [NOON, LATER]


def test_what_the_source_was_served_is_the_targets(store: Store) -> None:
    store.note_served("anon", hashes("i1"), 1, 3_600)
    store.note_served("ann", hashes("i2"), 2, 3_600)
    store.merge_users("anon", "ann", now=LATER)
    assert sorted(store.user_state("ann", with_served=True).served.tolist()) == sorted(hashes("i1", "i2").tolist())
    assert len(store.user_state("anon", with_served=True).served) == 0
    store.merge_users("nobody", "ann", now=LATER)
    assert len(store.user_state("ann", with_served=True).served) == 2


def test_a_merge_beside_events_loses_none(store: Store) -> None:
    started = Barrier(3)

    def write(user: str, first: int) -> None:
        started.wait()
        for number in range(first, first + 40):
            store.append([event(number, user=user)])

    threads = [Thread(target=write, args=arguments) for arguments in (("anon", 0), ("ann", 100))]
    for thread in threads:
        thread.start()
    started.wait()
    for _ in range(20):
        store.merge_users("anon", "ann", now=LATER)
    for thread in threads:
        thread.join()
    state = store.merge_users("anon", "ann", now=LATER)
    assert sorted(ids(state.history)) == sorted(f"i{n}" for n in (*range(40), *range(100, 140)))
    assert store.user_state("anon").version == 0
