from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from weakref import ref

import numpy as np

from recsys.history import HistoryCache, history_rows, joined
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem
from recsys.recommender import RecommenderConfig, Surroundings, recommend
from recsys.retrieval import RetrievalConfig
from recsys.storage.memory_store import MemoryStore
from recsys.types import HistoryItem, Query, Slate
from tests.worlds.families import SPACES, axis_of, release

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def clicks(*item_ids: str, at_ms: int = 0) -> tuple[HistoryItem, ...]:
    return tuple(HistoryItem(item_id, "view", at_ms) for item_id in item_ids)


def ids(history: tuple[HistoryItem, ...]) -> list[str]:
    return [item.item_id for item in history]


def test_the_session_comes_after_what_is_stored() -> None:
    assert ids(joined(clicks("a", "b", at_ms=1), clicks("c", "d", at_ms=2))) == ["a", "b", "c", "d"]


def test_either_may_be_empty() -> None:
    stored = clicks("a", "b")
    assert joined(stored, ()) == stored
    assert joined((), stored) == stored
    assert joined((), ()) == ()


def test_an_event_that_is_stored_and_sent_keeps_its_later_place() -> None:
    stored = (*clicks("a", at_ms=1), *clicks("b", at_ms=2))
    assert ids(joined(stored, clicks("a", at_ms=1))) == ["b", "a"]


def test_the_same_item_at_another_time_is_another_event() -> None:
    assert ids(joined(clicks("a", at_ms=1), clicks("a", at_ms=2))) == ["a", "a"]


def test_the_same_item_in_another_way_is_another_event() -> None:
    assert ids(joined((HistoryItem("a", "purchase", 1),), clicks("a", at_ms=1))) == ["a", "a"]
    assert ids(joined((HistoryItem("a", "purchase", 1),), clicks("a"))) == ["a", "a"]


def test_an_item_sent_without_a_time_is_the_stored_one() -> None:
    stored = (*clicks("a", at_ms=1), *clicks("b", at_ms=2))
    assert ids(joined(stored, clicks("a"))) == ["b", "a"]


def test_repetitions_within_one_source_stay() -> None:
    assert ids(joined(clicks("a", "a", at_ms=1), clicks("b", "b", at_ms=2))) == ["a", "a", "b", "b"]


def test_rows_and_codes_go_together_and_unknown_items_are_left_out() -> None:
    catalog = view_of(release(), [LiveItem("new", {}, {}, {})])
    history = (
        HistoryItem("b0", "view"),
        HistoryItem("unknown", "view"),
        HistoryItem("new", "interaction"),
        HistoryItem("a1", "never heard of"),
    )
    rows, codes = history_rows(history, catalog)
    assert rows.tolist() == [10, 30, 1]
    assert codes.tolist() == [2, 1, 0]  # ("unknown", "interaction", "view")
    assert rows.dtype == codes.dtype == np.dtype(np.int64)


def test_no_history_is_two_empty_arrays() -> None:
    rows, codes = history_rows((), view_of(release()))
    assert rows.shape == codes.shape == (0,)
    assert rows.dtype == codes.dtype == np.dtype(np.int64)


# What is kept between requests


def kept_over(cache: HistoryCache, *session: str, views: Sequence[CatalogView]) -> list[Slate]:
    """The slates of one session, by one snapshot after the other."""
    around, store = Surroundings(cache), MemoryStore()
    query = Query("request", NOW, history=clicks(*session), limit=40)
    return [recommend(query, view, store, RecommenderConfig(), around) for view in views]


def upsert(item_id: str, family: str, **fields: Any) -> LiveItem:
    return LiveItem(item_id, fields, {"text": axis_of(family)}, {"text": SPACES["text"].space_id})


def hits_of(views: Sequence[CatalogView], *history: str) -> list[bool]:
    hits: list[bool] = []
    kept_over(HistoryCache(1 << 20, hits.append), *history, views=views)
    return hits


def test_a_history_is_kept_while_what_changes_does_not_touch_it() -> None:
    first = view_of(release(), [upsert("new", "gamma")])
    priced = updated(first, 2, [LiveItem("c1", {"price": 3.0}, {}, {}), upsert("new", "gamma", price=1.0)])
    grown = updated(priced, 3, [upsert("another", "beta")])
    assert hits_of([first, priced, grown, view_of(first.release)], "c1") == [False, True, True, True]
    assert hits_of([first, priced, grown], "c1", "new") == [False, True, False]


def test_a_history_with_a_newcomer_follows_its_vector_its_deletion_and_its_return() -> None:
    gamma = view_of(release(), [upsert("new", "gamma")])
    beta = updated(gamma, 2, [upsert("new", "beta")])
    gone = updated(beta, 3, [LiveItem("new", {}, {}, {}, deleted=True)])
    back = updated(gone, 4, [upsert("new", "gamma")])
    views = (gamma, beta, gone, back)
    kept = kept_over(HistoryCache(1 << 20), "new", views=views)
    fresh = [kept_over(HistoryCache(0), "new", views=[view])[0] for view in views]
    assert [slate.items for slate in kept] == [slate.items for slate in fresh]
    assert [slate.missing_ids for slate in kept] == [(), (), ("new",), ()]
    assert [slate.items[0].item_id[0] for slate in kept[:2]] == ["c", "b"]


def test_a_history_with_an_unknown_item_is_read_again_when_it_comes() -> None:
    before = view_of(release())
    after = updated(before, 2, [upsert("soon", "gamma")])
    assert [slate.missing_ids for slate in kept_over(HistoryCache(1 << 20), "soon", views=[before, after])] == [
        ("soon",),
        (),
    ]


def test_a_history_of_rows_that_were_given_anew_is_read_again() -> None:
    """As happens when the store of upserts was lost: the same row is then another item's."""
    shop = release()
    views = [
        view_of(shop, [upsert("one", "gamma"), upsert("two", "beta")]),
        view_of(shop, [upsert("two", "beta"), upsert("one", "gamma")]),
    ]
    kept = kept_over(HistoryCache(1 << 20), "one", views=views)
    assert [slate.items[0].item_id[0] for slate in kept] == ["c", "c"]


def test_kept_histories_stay_within_their_bytes_however_long_the_sessions_are() -> None:
    cache, view = HistoryCache(200_000), view_of(release())
    for number in range(300):
        kept_over(cache, *(f"unknown {number} {each}" for each in range(100)), views=[view])
        assert cache.size_bytes <= 200_000
    assert len(cache) < 10


def test_what_is_kept_of_users_keeps_no_earlier_snapshot_and_no_release_alive() -> None:
    cache, view = HistoryCache(1 << 20), view_of(release(), [upsert("new", "gamma")])
    kept_over(cache, "c1", "new", views=[view])
    gone = [ref(view.release), ref(view.release.neighbours), ref(view.index), ref(view.newcomers)]
    del view
    gc.collect()
    assert len(cache) == 1
    assert [each() for each in gone] == [None] * 4


def test_a_release_that_comes_back_is_answered_from_though_it_was_let_go_of_meanwhile() -> None:
    """A rollback: the histories that were kept under its id are known, and all they came from is gone."""
    hits: list[bool] = []
    cache = HistoryCache(1 << 20, hits.append)
    view = view_of(release())
    (before,) = kept_over(cache, "c1", "a2", views=[view])
    gone = ref(view.release.neighbours)
    del view
    gc.collect()
    assert gone() is None
    (after,) = kept_over(cache, "c1", "a2", views=[view_of(release())])
    assert hits == [False, True]
    assert after.items == before.items


def test_candidates_are_kept_while_nothing_they_came_from_is_different() -> None:
    view, store = view_of(release()), MemoryStore()
    hidden = updated(view, 2, [LiveItem("c2", {"hidden": True}, {}, {})])
    none, some = np.empty(0, np.int64), np.array([3], np.int64)
    few = RecommenderConfig(retrieval=RetrievalConfig(popular=0, similar=0, ann=3))
    filtered = Query("request", NOW, history=clicks("c1"), limit=40, filter='item_id != "c9"', strict_filtering=True)
    plain = replace(filtered, filter="")
    steps = [
        (plain, view, none, RecommenderConfig()), (plain, view, some, RecommenderConfig()), (plain, view, some, few),
        (filtered, view, some, few), (plain, hidden, some, few), (plain, view, none, RecommenderConfig()),
    ]  # fmt: skip
    cache = HistoryCache(1 << 20)
    for query, catalog, trending, config in [each for each in steps for _ in range(2)]:
        kept = recommend(query, catalog, store, config, Surroundings(cache, trending))
        fresh = recommend(query, catalog, store, config, Surroundings(trending=trending))
        assert kept.items == fresh.items
        assert [(stage.name, stage.n_out) for stage in kept.trace] == [
            (stage.name, stage.n_out) for stage in fresh.trace
        ]
