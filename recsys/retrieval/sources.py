"""Where candidates come from.

pinned    placed by hand on this surface
ann       the query vector's nearest items
similar   items that follow, or go with, the latest of the history
category  popular items of the categories that the history is richest in
trending  what is taken most just now
recent    items upserted since the release was built
explore   items that nobody has met, a few at random: the budget of cold items
popular   what most people took
content   what looks or reads alike (similar items and search)
given     named in the request (rank)

Letters: N items of the release, M items upserted since, D width, F rows found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated
from weakref import ref

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.budget import Budget
from recsys.config import Config
from recsys.features.transitions import Votes
from recsys.guard import AlwaysOn
from recsys.history import History, KeptFound, KeptNearest
from recsys.live import CatalogView
from recsys.ports import AllowedRows, ItemIndex
from recsys.retrieval.merging import Found
from recsys.types import Candidates

Quota = Annotated[int, Field(ge=0)]
Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
NO_ROWS: Rows = np.empty(0, np.int64)
NO_FLOATS: Floats = np.empty(0, np.float32)
FAVOURITES = 2  # categories of a history whose popular items are candidates
STRIDE = 7919  # a prime: steps of it walk through a list of any other length without repeating


class RetrievalConfig(Config):
    """How many candidates each source may bring, before the filter.

    Attributes:
        ann: quota of the query vector's neighbours.
        similar: quota of items that follow the history.
        category: quota of popular items of the history's categories.
        trending: quota of what is taken most just now.
        recent: quota of items that came after the release.
        explore: quota of items that nobody has met yet; asked for where a surface explores.
        popular: quota of popular items; what is then missing from a slate is topped up from them.
        max_seen_overshoot: ann, recent and popular bring as many more as the user has seen, so that the filter leaves
            enough; at most this many.
    """

    ann: Quota = 300
    similar: Quota = 200
    category: Quota = 50
    trending: Quota = 20
    recent: Quota = 50
    explore: Quota = 20
    popular: Quota = 100
    max_seen_overshoot: Quota = 2000


@dataclass(frozen=True, slots=True)
class Asked:
    """What the sources are asked with.

    Attributes:
        query_vector: float32 [D]; None where there is none.
        overshoot: rows that the gate will drop, about.
        matching: the filter; None = everything matches.
        pinned, trending: int64 rows.
        explores: whether cold items are wanted; `seed` then chooses among them.
    """

    catalog: CatalogView
    history: History
    query_vector: Floats | None
    overshoot: int = 0
    matching: AllowedRows | None = None
    pinned: Rows = field(default_factory=lambda: NO_ROWS)
    trending: Rows = field(default_factory=lambda: NO_ROWS)
    explores: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Nearest:
    """The index's rows int64 [F] and inner products float32 [F], best first; `failed` says why not."""

    rows: Rows = field(default_factory=lambda: NO_ROWS)
    similarity: Floats = field(default_factory=lambda: NO_FLOATS)
    failed: str = ""


def nearest_to(asked: Asked, k: int, guard: AlwaysOn, budget: Budget) -> Nearest:
    """The query vector's nearest items, newcomers among them."""
    if asked.query_vector is None or k <= 0:
        return Nearest()
    index, kept = asked.catalog.index, asked.history.nearest
    # The same vector in the same index has the same neighbours; a change of what is shown makes another index.
    if asked.matching is None and kept is not None and kept.index() is index and kept.k == k:
        return Nearest(kept.rows, kept.similarity)
    if not budget.affords("retrieve"):
        return Nearest(failed="no_time")
    found = searched(index, asked.query_vector, k, asked.matching, guard)
    if asked.matching is None and not found.failed:
        guard.answered(asked.catalog, asked.query_vector, found.rows)
        asked.history.nearest = KeptNearest(ref(index), k, found.rows, found.similarity)
    return found


def searched(index: ItemIndex, vector: Floats, k: int, matching: AllowedRows | None, guard: AlwaysOn) -> Nearest:
    """The nearest of one vector float32 [D]; nothing, and why, where the index does not work: others still answer."""
    if not guard.works():
        return Nearest(failed="index_broken")
    try:
        rows, similarity = index.search(vector[None, :], k, matching)
    except (RuntimeError, ValueError):  # what FAISS and its checks raise
        guard.note(False)
        return Nearest(failed="index_failed")
    guard.note(True)
    return Nearest(rows[0], similarity[0])


def found_before(asked: Asked, quotas: RetrievalConfig) -> Candidates | None:
    """The candidates as they were found for this history before, where they would be the same now."""
    kept = asked.history.found
    if kept is None or not _may_be_kept(asked) or kept.index() is not asked.catalog.index:
        return None
    is_same = kept.trending is asked.trending and kept.overshoot == asked.overshoot
    return kept.candidates if is_same and (kept.quotas is quotas or kept.quotas == quotas) else None


def keep_found(asked: Asked, quotas: RetrievalConfig, candidates: Candidates) -> None:
    """For the next request with this history: see `found_before`."""
    if _may_be_kept(asked):
        index = ref(asked.catalog.index)
        asked.history.found = KeptFound(index, asked.trending, quotas, asked.overshoot, candidates)


def _may_be_kept(asked: Asked) -> bool:
    return asked.query_vector is not None and asked.matching is None and not asked.explores and not len(asked.pinned)


def found_by_all(asked: Asked, nearest: Nearest, votes: Votes, quotas: RetrievalConfig) -> list[Found]:
    """Every source's rows; the nearest come first, so that what the index said of them can be kept."""
    catalog, overshoot = asked.catalog, asked.overshoot
    return [
        *_by_index(nearest, catalog.release.n_items),
        Found("pinned", asked.pinned),
        Found("similar", votes.top_rows(quotas.similar)),
        *_in_favourite_categories(asked, quotas.category),
        Found("trending", asked.trending[: quotas.trending]),
        Found("recent", _newcomers(asked, quotas.recent + overshoot if quotas.recent else 0)),
        Found("explore", _cold(asked, quotas.explore) if asked.explores else NO_ROWS),
        Found("popular", catalog.release.popular_rows[: quotas.popular + overshoot if quotas.popular else 0]),
    ]


def _by_index(nearest: Nearest, n_items: int) -> list[Found]:
    """What the index brought, as of the release and as of the newcomers, in its own order where there are none."""
    is_new = nearest.rows >= n_items
    if not is_new.any():
        return [Found("ann", nearest.rows)]
    # One after the other in the order of the index: its similarities then still stand beside its rows.
    edges = np.flatnonzero(np.diff(is_new)) + 1
    return [
        Found("recent" if part[0] >= n_items else "ann", part) for part in np.split(nearest.rows, edges) if len(part)
    ]


def _in_favourite_categories(asked: Asked, quota: int) -> list[Found]:
    if not quota or not len(asked.history):
        return []
    lists = asked.catalog.release.category_lists
    favourites = asked.history.favourite_categories(lists, FAVOURITES)
    return [Found("category", lists.popular_in(each, quota // len(favourites))) for each in favourites]


def _newcomers(asked: Asked, quota: int) -> Rows:
    """Rows of the items that came after the release: the nearest to the query, or the latest without one."""
    catalog, n = asked.catalog, asked.catalog.release.n_items
    if len(catalog) == n or not quota:
        return NO_ROWS
    # Those that nobody may see would only take places of the quota.
    shown = np.flatnonzero(~catalog.hidden[n:])
    if asked.query_vector is None:
        return n + shown[::-1][:quota]
    similarity = (catalog.newcomers.vectors @ asked.query_vector)[shown]
    return n + shown[np.argsort(-similarity, kind="stable")[:quota]]


def _cold(asked: Asked, quota: int) -> Rows:
    """A few of the rows that nobody has met, others for each request; they repeat when the seed does."""
    cold = asked.catalog.release.cold_rows
    n = min(quota, len(cold))
    if not n:
        return NO_ROWS
    step = STRIDE if len(cold) % STRIDE else 1
    return cold[(asked.seed % len(cold) + step * np.arange(n)) % len(cold)]


def compared(
    rows: Rows,
    sources: Rows,
    query_vector: Floats | None,
    catalog: CatalogView,
    votes: Votes,
    known_similarity: Floats = NO_FLOATS,
) -> Candidates:
    """Candidates, not valued yet, with what ranking looks at: their similarity to the query, 0 for all of them where
    there is no query vector, and how the history leads to them.

    `known_similarity` float32 [K] is that of the first K rows.
    """
    n_known = len(known_similarity)
    similarity = np.zeros(len(rows), np.float32)
    similarity[:n_known] = known_similarity
    if query_vector is not None and n_known < len(rows):
        np.matmul(catalog.vectors(rows[n_known:]), query_vector, out=similarity[n_known:])
    unvalued = np.full(len(rows), np.nan, dtype=np.float32)
    return Candidates(rows, similarity, sources, unvalued, *votes.of(rows))
