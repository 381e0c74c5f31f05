"""Exact search by inner product: the oracle that approximate indexes are measured against.

Letters: N items, D width of a vector, B queries, k neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

MAX_CHUNK_BYTES = 16 * 2**20


class ExactIndex:
    """Every item is compared; a matrix product and one partition. Numpy alone, so it serves everywhere.

    Among equal similarities the lower row comes first, also at the cut after k.
    """

    def __init__(self, vectors: Vectors) -> None:
        """Keep `vectors`, float32 [N, D], uncopied where it is contiguous (it may be memory-mapped).

        Raises:
            ValueError: not two-dimensional, or a value is not finite.
        """
        self.vectors = checked_vectors(vectors)

    @property
    def n_items(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search`. Raises ValueError when queries are not finite float32 [B, D]."""
        queries = checked_queries(queries, self.dim)
        k = min(max(k, 0), self.n_items)
        rows = np.empty((len(queries), k), dtype=np.int64)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        step = max(1, MAX_CHUNK_BYTES // (4 * max(self.n_items, 1)))
        for start in range(0, len(queries) if k else 0, step):
            for place, line in enumerate(queries[start : start + step] @ self.vectors.T, start):
                rows[place], similarities[place] = largest(line, k)
        return rows, similarities

    def search_within(self, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search_within`; a row given twice is answered once."""
        return search_within(self.vectors, query, rows, k)


def search_within(vectors: Vectors, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
    """The k best of some rows of `vectors`, exactly: int64 [k'] and float32 [k'], k' = min(k, distinct rows)."""
    query = checked_queries(query[None], vectors.shape[1])[0]
    distinct = np.unique(np.asarray(rows, dtype=np.int64))
    if len(distinct) and (distinct[0] < 0 or distinct[-1] >= len(vectors)):
        raise ValueError(f"rows must lie in 0..{len(vectors) - 1}, not {distinct[0]}..{distinct[-1]}")
    places, similarities = largest(vectors[distinct] @ query, min(max(k, 0), len(distinct)))
    return distinct[places], similarities


def largest(values: Vectors, k: int) -> tuple[Rows, Vectors]:
    """Places and values of the k largest of float32 [N], best first, ties by the lower place; k <= N."""
    if k == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    if k < len(values):
        kth = np.partition(values, len(values) - k)[len(values) - k]
        kept = np.flatnonzero(values >= kth)
        if len(kept) > k:
            ties = np.flatnonzero(values[kept] == kth)
            kept = np.delete(kept, ties[k - len(kept) :])
    else:
        kept = np.arange(len(values))
    order = np.argsort(-values[kept], kind="stable")
    return kept[order].astype(np.int64, copy=False), values[kept][order]


def checked_vectors(vectors: Vectors) -> Vectors:
    """The same as contiguous float32 [N, D]. Raises ValueError when that is impossible or a value is not finite."""
    if vectors.ndim != 2:
        raise ValueError(f"item vectors must have the shape [N, D], not {vectors.shape}")
    contiguous: Vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(contiguous).all():
        raise ValueError("item vectors hold NaN or infinite values: check the model that made them")
    return contiguous


def checked_queries(queries: Vectors, dim: int) -> Vectors:
    """The same as contiguous float32 [B, D]. Raises ValueError when that is impossible or a value is not finite."""
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"queries must have the shape [B, {dim}], not {queries.shape}")
    contiguous: Vectors = np.ascontiguousarray(queries, dtype=np.float32)
    if not np.isfinite(contiguous).all():
        raise ValueError("a query vector holds NaN or infinite values: check the query tower and its input")
    return contiguous
