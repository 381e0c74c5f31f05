"""Parts of a request that fail, or that note what was asked of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recsys.budget import Budget, StageCosts
from recsys.errors import ArtifactError, StoreUnavailable
from recsys.events import Exposure
from recsys.index.exact import ExactIndex
from recsys.ports import PackedState
from recsys.retrieval.sources import AlwaysOn
from recsys.trace import StageTrace
from tests.worlds.flaky_store import FlakyStore

Floats = NDArray[np.float32]
DIM = 4
STAGES = ("hydrate", "encode", "retrieve", "filter", "rank", "choose", "explain", "expose")
StoreState = Literal["up", "down", "last known"]


class FailingTower:
    """A query tower that cannot run."""

    dim = DIM

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        raise ArtifactError("a tower failed on its input")

    def encode_many(
        self,
        histories: Floats,
        event_types: NDArray[np.int64],
        lengths: NDArray[np.int64],
        user_text: Floats | None = None,
        reads_text: NDArray[np.bool_] | None = None,
    ) -> Floats:
        return np.array([self.encode(histories[0], event_types[0])] * len(histories), np.float32)


class BrokenTower(FailingTower):
    """A query tower that answers with no numbers."""

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        return np.full(DIM, np.nan, np.float32)


class FailingIndex(ExactIndex):
    """As an index does whose library gives up."""

    def search(self, queries: Any, k: int, allowed: Any = None) -> Any:
        raise RuntimeError("Error in virtual void faiss::IndexFlat::search")


class TwoOutputs:
    """A ranker: clicks follow the similarity, purchases popularity."""

    feature_names = ("similarity", "log_popularity", "is_new")
    output_names = ("p_click", "p_buy")
    query_dim = 0

    def predict(self, features: Floats, query: Floats | None = None) -> Mapping[str, Floats]:
        p_click, p_buy = 1 / (1 + np.exp(-features[:, 0])), 1 / (1 + np.exp(-features[:, 1]))
        return {"p_click": p_click.astype(np.float32), "p_buy": p_buy.astype(np.float32)}


class FailingRanker(TwoOutputs):
    """A ranker that cannot run."""

    def predict(self, features: Floats, query: Floats | None = None) -> Mapping[str, Floats]:
        raise ArtifactError("the ranker failed on its input")


class NotingGuard(AlwaysOn):
    """Says always the same, and counts how often it was asked."""

    def __init__(self, says: bool) -> None:
        self.says = says
        self.n_asked = 0

    def works(self) -> bool:
        self.n_asked += 1
        return self.says


class NotingBudget(Budget):
    """A budget whose clock jumps past its end when it was looked at so many times; notes what it did not afford."""

    def __init__(self, n_looks: int | None) -> None:
        """`n_looks`: None = it never jumps."""
        costs = StageCosts()
        costs.note((StageTrace(name, 5.0, 1, 1) for name in STAGES), STAGES)
        super().__init__(50.0, costs, clock=_jumping(n_looks).__next__)
        self.not_afforded: set[str] = set()

    def affords(self, stage: str) -> bool:
        is_enough = super().affords(stage)
        if not is_enough:
            self.not_afforded.add(stage)
        return is_enough


def _jumping(n_looks: int | None) -> Iterator[float]:
    looks = -1  # the first look is the budget's own, when it is made
    while True:
        yield 0.0 if n_looks is None or looks < n_looks else 1e6
        looks += 1


class OneRead:
    """A store as one request sees it: marks of served items too, and where it is down what was read last, if anything.

    Implements `recsys.ports.RequestStore`.
    """

    def __init__(self, store: FlakyStore, state: StoreState, user_id: str) -> None:
        self._store = store
        self._last_known: PackedState | None = store.user_state(user_id, with_served=True)
        store.up = state == "up"
        if state == "down":
            self._last_known = None

    def user_state(self, user_id: str) -> PackedState:
        if self._last_known is None:
            raise StoreUnavailable("the store does not answer, and nothing is known from before")
        return self._last_known

    def append_exposure(self, exposure: Exposure) -> None:
        self._store.append_exposure(exposure)
