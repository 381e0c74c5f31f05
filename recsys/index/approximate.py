"""Approximate search: FAISS finds more candidates than asked for, the true vectors put them in order.

The FAISS part holds only codes; the item vectors, which a release has anyway, refine what it finds. So similarities
are exact, and nothing is stored twice. Letters: N items, A allowed rows, D width, B queries, k neighbours, F factor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.index.codes import Kind, OnProgress, build_codes, put_in_order, search_codes
from recsys.index.costs import coded_ns, subset_ns
from recsys.index.exact import ExactIndex
from recsys.index.live import LiveIndex
from recsys.index.products import checked_queries, checked_vectors, search_within
from recsys.ports import Allowed, AllowedRows, SearchWay

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

SMALLEST_FETCH = 256
"""Candidates fetched at least: four times ten are too few to hold the ten best of a dense cluster."""

FILTER_SLACK = 1.25
"""A filter that lets a share s pass is met by fetching this many times 1 / s; it seldom passes evenly."""

FEWEST_SHARE = 0.75
"""With fewer allowed candidates than this share of what an unfiltered search puts in order, recall would suffer."""


class ApproximateIndex:
    """Codes in FAISS, order by the true inner product.

    Under a filter the cheapest of three ways is taken that keeps the recall: comparing the few allowed items exactly,
    letting FAISS leave the others out (where there are cells), or fetching more and dropping the others.

    Attributes:
        vectors: float32 [N, D], the item vectors.
        codes: the FAISS index over them.
        refine_factor: F; FAISS is asked for F x k candidates.
        n_probes: cells searched, where the index has cells.
        n_threads: OpenMP threads of a search; more than one costs CPU under concurrency and gains nothing.
    """

    def __init__(
        self,
        vectors: Vectors,
        codes: Any,
        *,
        refine_factor: int = 4,
        n_probes: int = 1,
        n_threads: int = 1,
        are_checked: bool = False,
    ) -> None:
        """`are_checked`: see `ExactIndex`. Raises ValueError when codes and vectors do not belong together."""
        self.vectors = vectors if are_checked else checked_vectors(vectors)
        if (codes.ntotal, codes.d) != self.vectors.shape:
            raise ValueError(
                f"the index holds {codes.ntotal} x {codes.d}, the vectors {self.vectors.shape}: rebuild it"
            )
        self.codes = codes
        self.refine_factor = refine_factor
        self.n_probes = n_probes
        self.n_threads = n_threads
        self._kind = Kind.of(codes)
        self._exact = ExactIndex(self.vectors, are_checked=True)

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        factory: str,
        *,
        refine_factor: int = 4,
        n_probes: int = 1,
        seed: int = 1234,
        threads: int = 0,
        on_progress: OnProgress | None = None,
    ) -> ApproximateIndex:
        """Train and fill an index from a FAISS factory string; see `recsys.index.codes.build_codes`."""
        vectors = checked_vectors(vectors)
        codes = build_codes(vectors, factory, seed=seed, threads=threads, on_progress=on_progress)
        return cls(vectors, codes, refine_factor=refine_factor, n_probes=n_probes, are_checked=True)

    def tuned(self, *, refine_factor: int | None = None, n_probes: int | None = None) -> ApproximateIndex:
        """The same codes, searched more or less thoroughly."""
        return ApproximateIndex(
            self.vectors,
            self.codes,
            refine_factor=refine_factor or self.refine_factor,
            n_probes=n_probes or self.n_probes,
            n_threads=self.n_threads,
            are_checked=True,
        )

    @property
    def n_items(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def n_cells(self) -> int:
        """0 where it has none."""
        return self._kind.n_cells

    def search(self, queries: Vectors, k: int, allowed: Allowed | None = None) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search`. Raises ValueError when queries are not finite float32 [B, D]."""
        queries = checked_queries(queries, self.dim)
        only = self._filter(allowed)
        k = min(max(k, 0), self.n_items if only is None else only.n_allowed)
        n_wanted = max(k * self.refine_factor, SMALLEST_FETCH)
        n_fetched = self._n_fetched(only, k, n_wanted)
        if n_fetched is None:
            return self._exact.search(queries, k, only)
        n_enough = k if only is None else min(max(k, int(FEWEST_SHARE * n_wanted)), only.n_allowed)
        candidates, are_enough = self._candidates(queries, n_fetched, n_enough, only)
        rows, similarities = put_in_order(self.vectors, queries, candidates, k)
        if not are_enough:
            is_short = candidates[:, n_enough - 1] < 0
            rows[is_short], similarities[is_short] = self._exact.search(queries[is_short], k, only)
        return rows, similarities

    def search_way(self, k: int, allowed: Allowed | None = None) -> SearchWay:
        """See `recsys.ports.ItemIndex.search_way`."""
        only = self._filter(allowed)
        if only is None:
            return "unfiltered"
        k = min(max(k, 0), only.n_allowed)
        if self._n_fetched(only, k, max(k * self.refine_factor, SMALLEST_FETCH)) is None:
            return "exact_subset"
        return "selector" if self._kind.way == "cells" else "overfetch"

    def search_within(self, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search_within`."""
        return search_within(self.vectors, query, rows, k)

    def with_changes(self, added: Vectors, shown: NDArray[np.bool_]) -> LiveIndex:
        """See `recsys.ports.ItemIndex.with_changes`."""
        return LiveIndex(self, added, shown)

    def _filter(self, allowed: Allowed | None) -> AllowedRows | None:
        """The allowed rows; None where all are."""
        only = None if allowed is None else AllowedRows.of(allowed, self.n_items)
        return None if only is None or only.n_allowed == self.n_items else only

    def _n_fetched(self, only: AllowedRows | None, k: int, n_wanted: int) -> int | None:
        """How many to ask FAISS for; None where comparing exactly (the allowed ones, or all) costs less."""
        n_fetched = n_wanted if only is None else self._n_fetched_under(only, n_wanted)
        return None if k == 0 or n_fetched is None or 2 * n_fetched >= self.n_items else n_fetched

    def _n_fetched_under(self, only: AllowedRows, n_wanted: int) -> int | None:
        share = max(only.n_allowed, 1) / self.n_items
        if self._kind.way == "cells":
            n_fetched, n_swept = n_wanted, self.n_items * self._probes_for(only) / self.n_cells
        else:
            n_fetched, n_swept = int(FILTER_SLACK * n_wanted / share) + 1, self.n_items
        by_codes = coded_ns(n_swept, self._kind.n_codes, n_fetched, self.dim)
        return None if subset_ns(only.n_allowed, self.dim) <= by_codes else n_fetched

    def _probes_for(self, only: AllowedRows | None) -> int:
        """As many cells as hold about as many allowed items as an unfiltered search looks at."""
        probes = self.n_probes if only is None else self.n_probes * self.n_items / max(only.n_allowed, 1)
        return max(1, min(int(probes), self.n_cells))

    def _candidates(
        self, queries: Vectors, n_fetched: int, n_enough: int, only: AllowedRows | None
    ) -> tuple[Rows, bool]:
        """Distinct allowed rows for each query, int64 [B, n_fetched], -1 after the last one; and whether there are
        `n_enough` for each."""
        by_selector = only if self._kind.way == "cells" else None
        n_probes = self._probes_for(only)
        while True:
            found = search_codes(
                self.codes,
                self._kind,
                queries,
                n_fetched,
                n_probes=n_probes,
                n_threads=self.n_threads,
                allowed=by_selector,
            )
            if only is not None and by_selector is None:
                found = _kept(found, only.mask)
            # The probed cells may hold too few: probe more then.
            are_enough = bool((found[:, n_enough - 1] >= 0).all())
            if are_enough or n_probes >= self.n_cells:
                return found, are_enough
            n_probes = min(n_probes * 4, self.n_cells)


def _kept(found: Rows, mask: NDArray[np.bool_]) -> Rows:
    """The same without the rows that `mask` leaves out, int64 [B, C], -1 after the last one."""
    is_kept = (found >= 0) & mask[found]
    kept = np.full_like(found, -1)
    for line, candidates, is_one in zip(kept, found, is_kept, strict=True):
        chosen = candidates[is_one]
        line[: len(chosen)] = chosen
    return kept
