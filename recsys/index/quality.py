"""What an index finds of the exact answer, with and without filters: the figures that a release's gate looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.index.exact import ExactIndex
from recsys.metrics.ann import recall_against_exact
from recsys.ports import AllowedRows, ItemIndex

Vectors = NDArray[np.float32]

SELECTIVITIES = (0.9, 0.1, 0.01, 0.001, 0.0001)
"""Shares of the items that the filters let pass."""

FILTERED_QUERIES = 200
FILTERS_A_SELECTIVITY = 4


@dataclass(frozen=True)
class FilteredRecall:
    """Of one selectivity.

    Attributes:
        recall: recall@k against exact search under the same filter.
        shortest_share: the shortest answer's length over min(k, allowed items); below 1 is a short list.
        n_strays: answers that the filter does not allow, or that came twice.
    """

    selectivity: float
    recall: float
    shortest_share: float
    n_strays: int

    def as_json(self) -> dict[str, Any]:
        return {
            "selectivity": self.selectivity,
            "recall": round(self.recall, 6),
            "shortest_share": round(self.shortest_share, 6),
            "strays": self.n_strays,
        }


@dataclass(frozen=True)
class IndexQuality:
    """Recall without a filter, and under each of `SELECTIVITIES`."""

    recall: float
    filtered: tuple[FilteredRecall, ...]


def measure_index(
    index: ItemIndex, exact: ExactIndex, queries: Vectors, *, k: int, seed: int, with_filters: bool = True
) -> IndexQuality:
    """Search for each query float32 [B, D] with both indexes.

    Filters are drawn at random, `FILTERS_A_SELECTIVITY` of each, over the first `FILTERED_QUERIES` queries; a filter
    lets at least one item pass.
    """
    found, _ = index.search(queries, k)
    recall = recall_against_exact(found, exact.search(queries, k)[0])
    few = queries[:FILTERED_QUERIES]
    shares = SELECTIVITIES if with_filters and exact.n_items and len(few) else ()
    filtered = tuple(
        _under(index, exact, few, k, share, random_filters(exact.n_items, share, FILTERS_A_SELECTIVITY, seed=seed))
        for share in shares
    )
    return IndexQuality(recall, filtered)


def random_filters(n_items: int, selectivity: float, n_filters: int, *, seed: int) -> list[AllowedRows]:
    """`n_filters` sets of rows drawn without replacement; the same arguments give the same rows."""
    rng = np.random.default_rng([seed, round(selectivity * 1e6)])
    n_allowed = min(n_items, max(1, round(selectivity * n_items)))
    return [
        AllowedRows(rng.choice(n_items, n_allowed, replace=False, shuffle=False), n_items) for _ in range(n_filters)
    ]


def _under(
    index: ItemIndex,
    exact: ExactIndex,
    queries: Vectors,
    k: int,
    selectivity: float,
    filters: Sequence[AllowedRows],
) -> FilteredRecall:
    recalls, shortest, n_strays = [], 1.0, 0
    for place, allowed in enumerate(filters):
        mine = queries[place :: len(filters)]
        if not len(mine):
            continue
        found, _ = index.search(mine, k, allowed)
        wanted, _ = exact.search(mine, k, allowed)
        recalls.append((recall_against_exact(found, wanted), len(mine)))
        for line in found:
            right = np.unique(line[(line >= 0) & (line < allowed.n_items)])
            right = right[allowed.mask[right]]
            shortest = min(shortest, len(right) / max(wanted.shape[1], 1))
            n_strays += len(line) - len(right)
    total = sum(weight for _, weight in recalls)
    recall = sum(recall * weight for recall, weight in recalls) / total
    return FilteredRecall(selectivity, recall, shortest, n_strays)
