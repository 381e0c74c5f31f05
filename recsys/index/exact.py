"""Exact search by inner product: the oracle that approximate indexes are measured against.

Letters: N items, A allowed rows, D width of a vector, B queries, k neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.index.live import LiveIndex
from recsys.index.products import checked_queries, checked_vectors, products, search_within
from recsys.index.products import largest as largest
from recsys.ports import Allowed, AllowedRows, SearchWay

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

MAX_CHUNK_BYTES = 16 * 2**20
GATHER_BELOW_SHARE = 0.5
"""Gathering a row costs twice what passing over it does: with more than half allowed, all are compared."""


class ExactIndex:
    """Every allowed item is compared; a matrix product and one partition. Numpy alone, so it serves everywhere.

    Among equal similarities the lower row comes first, also at the cut after k.
    """

    def __init__(self, vectors: Vectors, *, are_checked: bool = False) -> None:
        """Keep `vectors`, float32 [N, D], uncopied where it is contiguous (it may be memory-mapped).

        `are_checked`: they were checked when the index was built, and opening a file need not read them all.

        Raises:
            ValueError: not two-dimensional, or a value is not finite.
        """
        self.vectors = vectors if are_checked else checked_vectors(vectors)

    @property
    def n_items(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def search(self, queries: Vectors, k: int, allowed: Allowed | None = None) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search`. Raises ValueError when queries are not finite float32 [B, D]."""
        queries = checked_queries(queries, self.dim)
        only = None if allowed is None else AllowedRows.of(allowed, self.n_items)
        n_there = self.n_items if only is None else only.n_allowed
        k = min(max(k, 0), n_there)
        rows = np.empty((len(queries), k), dtype=np.int64)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        step = max(1, MAX_CHUNK_BYTES // (4 * max(self.n_items, 1)))
        for start in range(0, len(queries) if k else 0, step):
            lines = self._compared(queries[start : start + step], only)
            for place, line in enumerate(lines, start):
                rows[place], similarities[place] = largest(line, k)
        return (rows if only is None else only.rows[rows]), similarities

    def search_way(self, k: int, allowed: Allowed | None = None) -> SearchWay:
        """See `recsys.ports.ItemIndex.search_way`."""
        is_filter = allowed is not None and AllowedRows.of(allowed, self.n_items).n_allowed < self.n_items
        return "exact_subset" if is_filter else "unfiltered"

    def search_within(self, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search_within`."""
        return search_within(self.vectors, query, rows, k)

    def with_changes(self, added: Vectors, shown: NDArray[np.bool_]) -> LiveIndex:
        """See `recsys.ports.ItemIndex.with_changes`."""
        return LiveIndex(self, added, shown)

    def _compared(self, queries: Vectors, only: AllowedRows | None) -> Vectors:
        """float32 [B, N], or [B, A] over the allowed rows."""
        if only is not None and only.n_allowed < GATHER_BELOW_SHARE * self.n_items:
            return products(self.vectors, only.rows, queries)
        everything: Vectors = queries @ self.vectors.T
        return everything if only is None else everything[:, only.rows]
