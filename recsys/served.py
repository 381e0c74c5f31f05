"""What a release really serves: slates of `recommender.recommend` for the users of an evaluation split.

Letters: U users with a target.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import Sequences, Split
from recsys.evaluation import distinct_users
from recsys.events import EPOCH, Exposure
from recsys.live import CatalogView
from recsys.ports import MAX_STORED_HISTORY, UserState
from recsys.recommender import RecommenderConfig, recommend
from recsys.types import HistoryItem, Query
from recsys.vocabulary import Vocabulary


class HistoryFeatures:
    """The states of an evaluation's users, straight from its arrays: what the feature store would answer."""

    def __init__(self, history: Sequences, vocabulary: Vocabulary) -> None:
        self._history = history
        self._vocabulary = vocabulary
        self._row_of = {user_id: row for row, user_id in enumerate(history.user_ids)}

    def user_state(self, user_id: str) -> UserState:
        row = self._row_of.get(user_id)
        if row is None:
            return UserState()
        mine = self._history.of(row)
        latest = slice(max(mine.start, mine.stop - MAX_STORED_HISTORY), mine.stop)
        names = self._history.event_type_names
        history = tuple(
            HistoryItem(self._vocabulary.item_ids[item], names[event_type], int(at_ms))
            for item, event_type, at_ms in zip(
                self._history.item_rows[latest].tolist(),
                self._history.event_types[latest].tolist(),
                self._history.occurred_at_ms[latest].tolist(),
                strict=True,
            )
        )
        return UserState(history, np.unique(self._vocabulary.hashes[self._history.item_rows[mine]]))

    def append_exposure(self, exposure: Exposure) -> None:
        """An evaluation leaves no record."""


def served_slates(
    catalog: CatalogView,
    split: Split,
    config: RecommenderConfig,
    *,
    limit: int = 20,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.int64]]:
    """One slate (item rows int64, best first) for each of `distinct_users(split)`, through the request's own code.

    The time of each request is the day after the last interaction of the histories, so that the figure is repeatable;
    in data without times it is the moment at which most items are available. The rows of `split` must be rows of the
    catalogue's release.
    """
    users = distinct_users(split)
    features = HistoryFeatures(split.history, catalog.release.vocabulary)
    quiet = config.model_copy(update={"log_exposures": False})
    now = _time_of_requests(split.history, catalog)
    slates = []
    for done, user in enumerate(users.tolist(), start=1):
        query = Query(recommendation_id="evaluation", now=now, user_id=split.history.user_ids[user], limit=limit)
        slate = recommend(query, catalog, features, quiet)
        rows, _ = catalog.release.vocabulary.rows(item.item_id for item in slate.items)
        slates.append(rows)
        if on_progress is not None and (done % 50 == 0 or done == len(users)):
            on_progress(done, len(users))
    return slates


def _time_of_requests(history: Sequences, catalog: CatalogView) -> datetime:
    if history.occurred_at_ms.any():
        return EPOCH + timedelta(milliseconds=int(history.occurred_at_ms.max()), days=1)
    when = catalog.availability
    starts, ends = np.sort(when.from_ms), np.sort(when.until_ms)
    n_available = np.searchsorted(starts, starts, side="right") - np.searchsorted(ends, starts, side="right")
    best_ms = int(starts[n_available.argmax()]) if len(starts) else 0
    return EPOCH + timedelta(milliseconds=max(best_ms, 0))
