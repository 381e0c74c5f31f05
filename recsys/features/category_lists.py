"""Which categories an item has, and which items of a category are taken most.

Letters: N items, G pairs of item and category, C categories.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Rows = NDArray[np.int64]
LONGEST_LIST = 200
"""Items kept of each category: more than any quota asks for."""


@dataclass(frozen=True)
class CategoryLists:
    """Both directions as flat arrays.

    Attributes:
        names: of the `C` categories.
        codes: int32 [G], categories by item; those of row r stand from `starts[r]` to `starts[r + 1]`.
        starts: int64 [N + 1].
        listed: int64, item rows by category, the most popular first; those of c from `list_starts[c]` on.
        list_starts: int64 [C + 1].
    """

    names: tuple[str, ...]
    codes: NDArray[np.int32]
    starts: Rows
    listed: Rows
    list_starts: Rows

    @staticmethod
    def of(categories: pa.ChunkedArray, popularity: NDArray[np.float32]) -> CategoryLists:
        """From the catalogue's column of lists and any measure of popularity float32 [N]."""
        column = categories.combine_chunks()
        encoded = pc.list_flatten(column).dictionary_encode()
        codes = np.asarray(encoded.indices, dtype=np.int32)
        lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0), dtype=np.int64)
        items = np.repeat(np.arange(len(lengths)), lengths)
        order = np.lexsort((items, -popularity[items], codes))
        place = np.arange(len(order)) - np.searchsorted(codes[order], codes[order])
        kept = order[place < LONGEST_LIST]
        names = tuple(str(name) for name in encoded.dictionary.to_pylist())
        return CategoryLists(
            names,
            codes,
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            items[kept],
            np.searchsorted(codes[kept], np.arange(len(names) + 1)).astype(np.int64),
        )

    def popular_in(self, category: int, k: int) -> Rows:
        """int64 [k'], the most popular rows of one category, k' <= k."""
        start = int(self.list_starts[category])
        return self.listed[start : min(start + k, int(self.list_starts[category + 1]))]

    def richest(self, rows: Rows, k: int) -> list[int]:
        """The `k` categories that most of these rows have, by falling count (ties by code); newcomers have none."""
        known = rows[rows < len(self.starts) - 1]
        parts = [self.codes[self.starts[row] : self.starts[row + 1]] for row in known.tolist()]
        if not parts:
            return []
        counts = Counter(np.concatenate(parts).tolist())
        return sorted(counts, key=lambda code: (-counts[code], code))[:k]
