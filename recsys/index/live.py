"""An index as it is now: added vectors beside it, and hidden rows that no search answers with.

A snapshot never changes: a change makes another one, and a search that runs meanwhile keeps the one it began with.
The additions are compared exactly; they are few, because each release is built from all items again, and that is
where they move into the index and hidden rows leave it.
Letters: N rows of the index below, M added ones, D width, B queries, k asked for.
"""

from __future__ import annotations

from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from recsys.index.products import checked_queries, checked_vectors, largest, products, search_within
from recsys.ports import Allowed, AllowedRows, ItemIndex, SearchWay

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]


class LiveIndex:
    """Implements `recsys.ports.ItemIndex` over rows 0..N-1 of `base` and N..N+M-1 of `added`, the shown ones only."""

    def __init__(self, base: ItemIndex, added: Vectors, shown: Mask) -> None:
        """
        Args:
            base: the index below, which stays as it is.
            added: float32 [M, D], M may be 0.
            shown: bool [N + M]; False = hidden or deleted.

        Raises:
            ValueError: the mask is of another length, or an added vector is not finite.
        """
        self.base = base
        self.added = checked_vectors(added)
        self.shown = AllowedRows(shown, base.n_items + len(added))
        self._parts_of: WeakKeyDictionary[AllowedRows, tuple[AllowedRows | None, Rows]] = WeakKeyDictionary()

    @property
    def n_items(self) -> int:
        """N + M, hidden rows included."""
        return self.shown.n_items

    def search(self, queries: Vectors, k: int, allowed: Allowed | None = None) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search`: k' = min(k, rows that are shown and allowed)."""
        below, added_rows = self._shown_of(allowed)
        n_there = len(added_rows) + (self.base.n_items if below is None else below.n_allowed)
        rows, similarities = self.base.search(queries, k, below)
        if not len(added_rows) or k <= 0:
            return rows, similarities
        queries = checked_queries(queries, self.added.shape[1])
        of_added = products(self.added, added_rows - self.base.n_items, queries)
        merged_rows = np.empty((len(queries), min(k, n_there)), dtype=np.int64)
        merged = np.empty(merged_rows.shape, dtype=np.float32)
        for place in range(len(queries)):
            values = np.concatenate([similarities[place], of_added[place]])
            best, merged[place] = largest(values, merged.shape[1])
            merged_rows[place] = np.concatenate([rows[place], added_rows])[best]
        return merged_rows, merged

    def search_way(self, k: int, allowed: Allowed | None = None) -> SearchWay:
        """See `recsys.ports.ItemIndex.search_way`: that of the index below, for which hidden rows are a filter too.
        The added rows are compared exactly in any case."""
        return self.base.search_way(k, self._shown_of(allowed)[0])

    def search_within(self, query: Vectors, rows: Rows, k: int) -> tuple[Rows, Vectors]:
        """See `recsys.ports.ItemIndex.search_within`; hidden rows are left out."""
        distinct = np.unique(np.asarray(rows, dtype=np.int64))
        if len(distinct) and (distinct[0] < 0 or distinct[-1] >= self.n_items):
            raise ValueError(f"rows must lie in 0..{self.n_items - 1}, not {distinct[0]}..{distinct[-1]}")
        distinct = distinct[self.shown.mask[distinct]]
        n = self.base.n_items
        found, similarities = self.base.search_within(query, distinct[distinct < n], k)
        added, of_added = search_within(self.added, query, distinct[distinct >= n] - n, k)
        values = np.concatenate([similarities, of_added])
        best, values = largest(values, min(max(k, 0), len(values)))
        return np.concatenate([found, added + n])[best], values

    def with_changes(self, added: Vectors, shown: Mask) -> LiveIndex:
        """See `recsys.ports.ItemIndex.with_changes`: what was added before keeps its rows, what was hidden stays so."""
        n = self.n_items
        still = np.concatenate([self.shown.mask & shown[:n], shown[n:]])
        return LiveIndex(self.base, np.concatenate([self.added, checked_vectors(added)]), still)

    def _shown_of(self, allowed: Allowed | None) -> tuple[AllowedRows | None, Rows]:
        """The parts of what is allowed and shown. Those of an `AllowedRows` are kept as long as it lives: taking them
        apart, and packing them for FAISS, costs as much as a search."""
        if allowed is None:
            return self._all_shown
        only = AllowedRows.of(allowed, self.n_items)
        parts = self._parts_of.get(only)
        if parts is None:
            parts = self._parts_of[only] = self._parts(only.mask & self.shown.mask)
        return parts

    @cached_property
    def _all_shown(self) -> tuple[AllowedRows | None, Rows]:
        return self._parts(self.shown.mask)

    def _parts(self, mask: Mask) -> tuple[AllowedRows | None, Rows]:
        """The allowed rows of the index below (None = all of them), and those added, counted from N."""
        n = self.base.n_items
        below = AllowedRows(mask[:n], n)
        return (None if below.n_allowed == n else below), n + np.flatnonzero(mask[n:])
