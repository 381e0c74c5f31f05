from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from recsys.dataset import Sequences, global_temporal, leave_last_out
from recsys.events import hash64
from recsys.live import CatalogView, view_of
from recsys.ports import MAX_STORED_HISTORY
from recsys.recommender import RecommenderConfig, recommend
from recsys.served import HistoryFeatures, served_slates
from recsys.storage.memory_store import MemoryStore
from recsys.times import to_ms
from recsys.types import HistoryItem, Query
from tests.worlds.families import release
from tests.worlds.in_memory import MeanOfHistory, in_memory_release

FIRST = datetime(2025, 1, 1, tzinfo=UTC)


def sequences(*histories: Sequence[int], timed: bool = True) -> Sequences:
    """One user a history of item rows, one interaction a day."""
    rows = [row for history in histories for row in history]
    days = [day for history in histories for day in range(len(history))]
    first_ms, day_ms = to_ms(FIRST), 86_400_000
    return Sequences(
        user_ids=tuple(f"user {user}" for user in range(len(histories))),
        offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
        item_rows=np.array(rows, dtype=np.int64),
        event_types=np.full(len(rows), 2),
        occurred_at_ms=np.array([first_ms + day * day_ms if timed else 0 for day in days], dtype=np.int64),
        event_type_names=("unknown", "interaction", "view"),
    )


def shop(*items: CatalogItem) -> CatalogView:
    vectors = np.ones((len(items), 2), np.float32)
    return view_of(in_memory_release(items, vectors, query_encoder=MeanOfHistory(2)))


def test_the_slates_are_those_that_a_store_with_these_histories_would_be_given() -> None:
    catalog = view_of(release())
    split = leave_last_out(sequences([20, 21, 22, 23], [0, 1], [10, 11, 12]), part="test")
    slates = served_slates(catalog, split, RecommenderConfig(), limit=7)
    features = HistoryFeatures(split.history, catalog.release.vocabulary)
    for user, slate in zip(("user 0", "user 2"), slates, strict=True):
        store = MemoryStore()
        store.import_histories([(user, features.user_state(user).history)])
        # the day after the last interaction that may be seen: the third day of user 0
        asked = Query("again", FIRST + timedelta(days=3), user_id=user, limit=7)
        again = recommend(asked, catalog, store, RecommenderConfig())
        assert [catalog.item_id(int(each)) for each in slate] == [item.item_id for item in again.items]
        assert slate.dtype == np.int64


def test_the_held_out_item_can_be_found_and_the_known_ones_never_return() -> None:
    split = leave_last_out(sequences([20, 21, 22, 23]), part="test")
    (slate,) = served_slates(view_of(release()), split, RecommenderConfig(), limit=500)
    assert sorted(slate.tolist()) == [row for row in range(30) if row not in (20, 21, 22)]


def test_a_user_with_several_targets_is_served_once() -> None:
    split = global_temporal(sequences([0, 1, 2, 3, 4, 5]), quantile=0.5)
    assert len(split.target_users) == 3
    assert len(served_slates(view_of(release()), split, RecommenderConfig())) == 1


def test_progress_is_told_every_fifty_users_and_at_the_end() -> None:
    split = leave_last_out(sequences(*[[row % 30, 10, 11] for row in range(60)]), part="test")
    told: list[tuple[int, int]] = []
    served_slates(view_of(release()), split, RecommenderConfig(), limit=1, on_progress=lambda *at: told.append(at))
    assert told == [(50, 60), (60, 60)]


def test_the_request_comes_the_day_after_the_last_interaction() -> None:
    last_known = FIRST + timedelta(days=1)
    catalog = shop(
        CatalogItem("first"), CatalogItem("second"), CatalogItem("target"),
        CatalogItem("in time", available_from=last_known + timedelta(days=1)),
        CatalogItem("too late", available_from=last_known + timedelta(days=1, milliseconds=1)),
        CatalogItem("gone", available_until=last_known + timedelta(days=1)),
    )  # fmt: skip
    split = leave_last_out(sequences([0, 1, 2]), part="test")
    (slate,) = served_slates(catalog, split, RecommenderConfig())
    assert sorted(catalog.item_id(int(row)) for row in slate) == ["in time", "target"]


def test_without_times_the_request_comes_when_most_items_are_available() -> None:
    catalog = shop(
        CatalogItem("first", available_from=FIRST), CatalogItem("second", available_from=FIRST),
        CatalogItem("target", available_from=FIRST, available_until=FIRST + timedelta(days=9)),
        CatalogItem("always"),
        CatalogItem("far future", available_from=datetime(9999, 12, 31, tzinfo=UTC)),
    )  # fmt: skip
    split = leave_last_out(sequences([0, 1, 2], timed=False), part="test")
    (slate,) = served_slates(catalog, split, RecommenderConfig())
    assert sorted(catalog.item_id(int(row)) for row in slate) == ["always", "target"]


def test_without_users_or_items_there_is_no_slate() -> None:
    nobody = leave_last_out(sequences(), part="test")
    assert served_slates(view_of(release(families=())), nobody, RecommenderConfig()) == []
    assert served_slates(shop(), leave_last_out(sequences([]), part="test"), RecommenderConfig()) == []


def test_the_state_of_a_long_history_holds_its_latest_items_and_all_that_was_seen() -> None:
    rows: NDArray[np.int64] = np.arange(MAX_STORED_HISTORY + 50)
    catalog = shop(*[CatalogItem(f"i{row}") for row in rows])
    features = HistoryFeatures(sequences(rows.tolist()), catalog.release.vocabulary)
    state = features.user_state("user 0")
    assert [item.item_id for item in state.history] == [f"i{row}" for row in rows[50:]]
    assert state.history[-1] == HistoryItem(f"i{rows[-1]}", "view", to_ms(FIRST + timedelta(days=len(rows) - 1)))
    assert state.seen.tolist() == sorted(hash64(f"i{row}") for row in rows)
    assert features.user_state("nobody").history == ()
