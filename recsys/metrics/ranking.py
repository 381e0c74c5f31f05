"""How well a ranking finds what the user chose: recall, NDCG, MRR and hit rate at k.

Letters: B queries, N items, K places of a list, T targets, X excluded pairs.

Two forms: from the rank of one target (`recall_of_ranks` ...), and from ranked lists with several relevant items
(`hits_in_lists`, then `recall_of_hits` ...). Both give one value a row; the mean over rows is the metric.
Ranks count from 1. Gain is binary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
Hits = NDArray[np.bool_]
Pairs = tuple[Rows, Rows]

MISS = 1 << 62
"""The rank of a target that a list does not hold: beyond every k."""

NO_ITEM = -1
"""Fills the places of a list that is shorter than the others."""


def rank_of_target(scores: NDArray[np.float32], targets: Rows, excluded: Pairs | None = None) -> Rows:
    """The rank of one target a row among the items that are not excluded; 1 is the best.

    Ties never help: a target ranks behind every item of the same score, and behind every NaN, so that a model
    that gives one score to all items gains nothing. The target itself is never excluded.

    Args:
        scores: float32 [B, N], the larger the better; not changed.
        targets: int64 [B], an item row each.
        excluded: query rows int64 [X] (0..B-1) and item rows int64 [X]; repetitions are harmless.

    Returns:
        int64 [B], from 1 to N.
    """
    n_queries, n_items = scores.shape
    of_target = scores[np.arange(n_queries), targets][:, None]
    below: Rows = np.count_nonzero(scores < of_target, axis=1).astype(np.int64)
    eligible = np.full(n_queries, n_items, dtype=np.int64)
    if excluded is not None and len(excluded[0]):
        queries, items = np.divmod(np.unique(excluded[0] * n_items + excluded[1]), n_items)
        others = items != targets[queries]
        queries, items = queries[others], items[others]
        eligible -= np.bincount(queries, minlength=n_queries)
        excluded_below = scores[queries, items] < of_target[queries, 0]
        below = below - np.bincount(queries[excluded_below], minlength=n_queries)
    return eligible - below


def recall_of_ranks(ranks: Rows, k: int) -> Values:
    """1 where the one target is among the first k, else 0: float64 [T]. With one target, recall is the hit rate."""
    return (ranks <= k).astype(np.float64)


def ndcg_of_ranks(ranks: Rows, k: int) -> Values:
    """`1 / log2(1 + rank)` within the first k, else 0: float64 [T].

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002, with the discount
    `log2(1 + rank)` of Burges et al. 2005; the ideal list of one target has gain 1.
    """
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def mrr_of_ranks(ranks: Rows, k: int) -> Values:
    """`1 / rank` within the first k, else 0: float64 [T]. Voorhees, "The TREC-8 question answering track", 1999."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def hits_in_lists(lists: Rows, relevant: Sequence[ArrayLike]) -> Hits:
    """Which places hold a relevant item: bool [B, K].

    Args:
        lists: int64 [B, K], item rows best first, `NO_ITEM` where a list ends early; no item twice in a list.
        relevant: B collections of item rows.
    """
    width = int(lists.max(initial=0)) + 1
    wanted = [np.asarray(items, dtype=np.int64) for items in relevant]
    keys = [query * width + items[items < width] for query, items in enumerate(wanted)]
    list_keys = np.arange(len(lists), dtype=np.int64)[:, None] * width + lists
    found = np.isin(list_keys, np.concatenate(keys)) if keys else np.zeros(lists.shape, dtype=np.bool_)
    return np.asarray(found & (lists != NO_ITEM), dtype=np.bool_)


def rank_in_lists(lists: Rows, targets: Rows) -> Rows:
    """The place of one target in its list, from 1; `MISS` where the list lacks it: int64 [B]."""
    if lists.shape[1] == 0:
        return np.full(len(targets), MISS, dtype=np.int64)
    found = lists == targets[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1, MISS).astype(np.int64)


def recall_of_hits(hits: Hits, n_relevant: Rows, k: int) -> Values:
    """Relevant items among the first k over all relevant items: float64 [B]; 0 where nothing is relevant."""
    found: Values = hits[:, :k].sum(axis=1).astype(np.float64)
    return found / np.maximum(n_relevant, 1)


def hit_rate_of_hits(hits: Hits, k: int) -> Values:
    """1 where any of the first k is relevant, else 0: float64 [B]."""
    return np.where(hits[:, :k].any(axis=1), 1.0, 0.0)


def ndcg_of_hits(hits: Hits, n_relevant: Rows, k: int) -> Values:
    """Discounted gain of the first k over that of the best possible list: float64 [B]; 0 where nothing is relevant.

    `sum(1 / log2(1 + rank) of hits) / sum(1 / log2(1 + r) for r in 1..min(k, n_relevant))`, sources as in
    `ndcg_of_ranks`.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2, dtype=np.float64))
    gain = hits[:, :k] @ discounts[: hits[:, :k].shape[1]]
    ideal = np.concatenate([[1.0], np.cumsum(discounts)])[np.minimum(n_relevant, k)]
    return np.asarray(np.where(n_relevant > 0, gain / ideal, 0.0))


def mrr_of_hits(hits: Hits, k: int) -> Values:
    """`1 / rank` of the first relevant item within the first k, else 0: float64 [B]."""
    within = hits[:, :k]
    if within.shape[1] == 0:
        return np.zeros(len(hits))
    return np.where(within.any(axis=1), 1.0 / (within.argmax(axis=1) + 1.0), 0.0)
