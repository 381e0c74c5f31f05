"""The values that flow through a request. All frozen; stages return new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.trace import StageTrace

MAX_ID_CHARACTERS = 256
DEFAULT_EVENT_TYPE = "interaction"


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """One interaction as a query knows it. `occurred_at_ms` is UTC milliseconds, 0 where unknown.

    `event_hash` (uint64, of the event_id) tells whether two sources speak of the same event; 0 where unknown.
    """

    item_id: str
    event_type: str = DEFAULT_EVENT_TYPE
    occurred_at_ms: int = 0
    event_hash: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """One request for recommendations, after the border has checked it.

    Attributes:
        history: session history sent with the request, oldest first; joined to what the store knows.
        recommendation_id: names this request in the exposure log; the border makes it.
        now: the time of the request, UTC.
        seed: makes every random choice of this request repeatable.
        surface: where the slate is shown; configuration by that name overlays the default.
        filter: an expression of `recsys.expressions` that each item must match; "" = all do.
        strict_filtering: where nothing matches the filter, answer with nothing instead of with unfiltered items.
        paged: uint32, sorted: `hash32` of the items on earlier pages of this recommendation.
        context: what the client says of the moment; kept in the exposure log.
        variants: experiment → variant, of those that this request is part of; the configuration that answers it has
            them in it already.
    """

    recommendation_id: str
    now: datetime
    user_id: str | None = None
    session_id: str | None = None
    history: tuple[HistoryItem, ...] = ()
    exclude_item_ids: tuple[str, ...] = ()
    limit: int = 20
    explain: bool = False
    seed: int = 0
    surface: str | None = None
    filter: str = ""
    strict_filtering: bool = False
    paged: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    context: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidates:
    """A struct of arrays, one entry a candidate; `C` candidates.

    Attributes:
        item_rows: int64 [C], no row twice.
        similarity: float32 [C], inner product of query and item vector (0 where the query has no vector).
        sources: int64 [C], bit set of the sources that brought it (see `recsys.retrieval.SOURCES`).
        value: float32 [C], what ranking gives, and boosts; NaN before it. The larger the better.
        transition: float32 [C], how much the history leads to it; None = not looked at.
        leads: int32 [C], the row of the history's item that leads to it most, -1 where none does; None likewise.
        boost: float32 [C], what of the value a surface's rules gave; None = nothing to any.
        propensity: float32 [C], how likely each was to stand where it stands; None = certain.
    """

    item_rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    sources: NDArray[np.int64]
    value: NDArray[np.float32]
    transition: NDArray[np.float32] | None = None
    leads: NDArray[np.int32] | None = None
    boost: NDArray[np.float32] | None = None
    propensity: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.item_rows)

    def take(self, index: NDArray[Any]) -> Candidates:
        """The candidates at `index` (positions or a bool mask), in that order."""
        return Candidates(
            self.item_rows[index],
            self.similarity[index],
            self.sources[index],
            self.value[index],
            None if self.transition is None else self.transition[index],
            None if self.leads is None else self.leads[index],
            None if self.boost is None else self.boost[index],
            None if self.propensity is None else self.propensity[index],
        )

    def ranked(self, value: NDArray[np.float32]) -> Candidates:
        """With these values, best first; ties keep their order."""
        best_first = np.argsort(-value, kind="stable")
        valued = Candidates(self.item_rows, self.similarity, self.sources, value, self.transition, self.leads)
        return valued.take(best_first)

    def joined(self, more: Candidates) -> Candidates:
        """These, then the others; the others must be rows that are not here, and of both the same is known. Neither is
        boosted or chosen yet."""
        return Candidates(
            np.concatenate([self.item_rows, more.item_rows]),
            np.concatenate([self.similarity, more.similarity]),
            np.concatenate([self.sources, more.sources]),
            np.concatenate([self.value, more.value]),
            _both(self.transition, more.transition),
            _both(self.leads, more.leads),
        )

    @property
    def is_valued(self) -> bool:
        """Whether ranking is done: all have a value, best first, since what is joined to them comes last."""
        return not len(self.value) or bool(self.value[-1] == self.value[-1])

    @staticmethod
    def none() -> Candidates:
        floats = np.empty(0, np.float32)
        return Candidates(np.empty(0, np.int64), floats, np.empty(0, np.int64), floats)


def _both(mine: NDArray[Any] | None, theirs: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if mine is None or theirs is None else np.concatenate([mine, theirs])


class SlateItem(msgspec.Struct, frozen=True, gc=False):
    """One item of a slate. `position` counts from 0. No cycles: collectors pass it over.

    `propensity` is the probability of this item at this place, given those before it. `parts` and `because` come only
    when the query asks to explain: the terms of `value`, by name, which add up to it; and the ids of the history items
    that mattered most.
    """

    item_id: str
    value: float
    source: str
    reasons: tuple[str, ...]
    position: int
    propensity: float = 1.0
    parts: Mapping[str, float] = {}
    because: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slate:
    """The answer to a query.

    Attributes:
        degraded: names of the stages that fell back; empty when all is well.
        missing_ids: ids in the request that this release does not know.
        variants: experiment → variant, as the query has them.
        dropped: candidates that each rule of the gate dropped.
        item_hashes: uint64, `hash64` of the items, in order.
    """

    recommendation_id: str
    items: tuple[SlateItem, ...]
    release: str
    variants: Mapping[str, str] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    missing_ids: tuple[str, ...] = ()
    next_page_token: str | None = None
    trace: tuple[StageTrace, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    surface: str | None = None
    item_hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
