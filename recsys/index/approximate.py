"""Approximate search: FAISS finds more candidates than asked for, the true vectors put them in order.

The FAISS part holds only codes; the item vectors, which a release has anyway, refine what it finds. So similarities
are exact, and nothing is stored twice. Letters: N items, D width, B queries, k neighbours, F factor.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.index.exact import ExactIndex, checked_queries, checked_vectors, search_within

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

SMALLEST_FETCH = 256
"""Candidates fetched at least: four times ten are too few to hold the ten best of a dense cluster."""

TRAINING_VECTORS_A_CELL = 64
"""A quarter of FAISS's own default: cells train four times faster, with the same recall."""


class ApproximateIndex:
    """Codes in FAISS, order by the true inner product.

    Attributes:
        vectors: float32 [N, D], the item vectors.
        codes: the FAISS index over them.
        refine_factor: F; FAISS is asked for F x k candidates.
        n_probes: cells searched, where the index has cells.
        n_threads: OpenMP threads of a search; more than one costs CPU under concurrency and gains nothing.
    """

    def __init__(
        self, vectors: Vectors, codes: Any, *, refine_factor: int = 4, n_probes: int = 1, n_threads: int = 1
    ) -> None:
        """Raises ValueError when codes and vectors do not belong together."""
        self.vectors = checked_vectors(vectors)
        if (codes.ntotal, codes.d) != self.vectors.shape:
            raise ValueError(
                f"the index holds {codes.ntotal} x {codes.d}, the vectors {self.vectors.shape}: rebuild it"
            )
        self.codes = codes
        self.refine_factor = refine_factor
        self.n_probes = n_probes
        self.n_threads = n_threads
        self._n_cells = _n_cells(codes)
        self._exact = ExactIndex(self.vectors)

    @classmethod
    def build(
        cls, vectors: Vectors, factory: str, *, refine_factor: int = 4, n_probes: int = 1, seed: int = 1234
    ) -> ApproximateIndex:
        """Train and fill an index from a FAISS factory string; the same vectors give the same bytes.

        One thread, because the order of floating-point sums depends on their number.
        """
        vectors = checked_vectors(vectors)
        faiss.omp_set_num_threads(1)
        codes = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        _prepare(codes, seed)
        codes.train(vectors)
        codes.add(vectors)
        return cls(vectors, codes, refine_factor=refine_factor, n_probes=n_probes)

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
        n_fetched = max(k * self.refine_factor, SMALLEST_FETCH)
        if 2 * n_fetched >= self.n_items:
            return self._exact.search(queries, k)
        rows = np.empty((len(queries), k), dtype=np.int64)
        similarities = np.empty((len(queries), k), dtype=np.float32)
        for place, candidates in enumerate(self._candidates(queries, n_fetched, k)):
            rows[place], similarities[place] = search_within(self.vectors, queries[place], candidates, k)
        return rows, similarities

    def search_within(self, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search_within`; exact, a row given twice is answered once."""
        return search_within(self.vectors, query, rows, k)

    def _candidates(self, queries: Vectors, n_fetched: int, k: int) -> list[Rows]:
        """At least k rows a query. FAISS fills up with -1 when the probed cells hold too few: probe more then."""
        # The number of threads belongs to the calling thread, and a server has many: set it at every call (0.1 µs).
        faiss.omp_set_num_threads(self.n_threads)
        n_probes = min(self.n_probes, self._n_cells)
        while True:
            found = self._search_codes(queries, n_fetched, n_probes)
            candidates = [line[line >= 0] for line in found]
            if min((len(line) for line in candidates), default=k) >= k:
                return candidates
            if n_probes >= self._n_cells:
                everything = np.arange(self.n_items, dtype=np.int64)
                return [line if len(line) >= k else everything for line in candidates]
            n_probes = min(n_probes * 4, self._n_cells)

    def _search_codes(self, queries: Vectors, n_fetched: int, n_probes: int) -> Rows:
        parameters = _search_parameters(self.codes, n_fetched, n_probes)
        found: Rows = self.codes.search(queries, n_fetched, params=parameters)[1]
        return found


def _search_parameters(codes: Any, n_fetched: int, n_probes: int) -> Any:
    """Given with each search instead of set on the index, which threads share."""
    engine: Any = faiss
    if isinstance(codes, engine.IndexPreTransform):
        inner = _search_parameters(engine.downcast_index(codes.index), n_fetched, n_probes)
        return engine.SearchParametersPreTransform(index_params=inner) if inner is not None else None
    if isinstance(codes, engine.IndexIVF):
        return engine.SearchParametersIVF(nprobe=n_probes)
    if isinstance(codes, engine.IndexHNSW):
        return engine.SearchParametersHNSW(efSearch=n_fetched)
    return None


def _n_cells(codes: Any) -> int:
    engine: Any = faiss
    cells = engine.try_extract_index_ivf(codes)
    return int(cells.nlist) if cells is not None else 1


def _prepare(codes: Any, seed: int) -> None:
    """All that FAISS draws at random for codes and cells comes from the seeds of its clusterings."""
    engine: Any = faiss
    while isinstance(codes, engine.IndexPreTransform):
        codes = engine.downcast_index(codes.index)
    if isinstance(codes, engine.IndexIVF):
        codes.cp.seed = seed
        codes.cp.max_points_per_centroid = TRAINING_VECTORS_A_CELL
    if hasattr(codes, "pq"):
        codes.pq.cp.seed = seed
