"""Inner products with some rows of a matrix, and the largest of them. Numpy alone.

Letters: N rows, A rows that are looked at, D width, B queries, k asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

CHECKED_BYTES = 16 * 2**20
GATHERED_BYTES = 512 * 2**10
"""Rows gathered at once: they stay in a core's cache. One gather of 10,000 x 128 takes ten times as long: each page of
fresh memory is a fault."""


def products(vectors: Vectors, rows: Rows, queries: Vectors) -> Vectors:
    """Inner products float32 [B, A] of the queries with some rows of `vectors`, gathered a cacheful at a time."""
    out = np.empty((len(queries), len(rows)), dtype=np.float32)
    step = max(1, GATHERED_BYTES // (4 * max(vectors.shape[1], 1)))
    if len(rows) <= step:
        np.matmul(queries, vectors.take(rows, axis=0).T, out=out)
        return out
    gathered = np.empty((step, vectors.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        # "clip" because the rows are known to exist, and checking each one costs a copy.
        vectors.take(some, axis=0, out=gathered[: len(some)], mode="clip")
        out[:, start : start + len(some)] = queries @ gathered[: len(some)].T
    return out


def search_within(vectors: Vectors, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
    """The k best of some rows of `vectors`, exactly: int64 [k'] and float32 [k'], k' = min(k, distinct rows)."""
    queries = checked_queries(query[None], vectors.shape[1])
    distinct = np.asarray(rows, dtype=np.int64)
    if not (distinct[1:] > distinct[:-1]).all():  # sorting all rows of a catalogue would hold up everybody else
        distinct = np.unique(distinct)
    if len(distinct) and (distinct[0] < 0 or distinct[-1] >= len(vectors)):
        raise ValueError(f"rows must lie in 0..{len(vectors) - 1}, not {distinct[0]}..{distinct[-1]}")
    places, similarities = largest(products(vectors, distinct, queries)[0], min(max(k, 0), len(distinct)))
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
    step = max(1, CHECKED_BYTES // (4 * max(contiguous.shape[1], 1)))
    # In chunks: a mask of a whole catalogue would take a quarter of its vectors' memory.
    if not all(np.isfinite(contiguous[start : start + step]).all() for start in range(0, len(contiguous), step)):
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
