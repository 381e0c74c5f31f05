"""Objects that a detector saw in items' pictures, each with a vector of its own crop.

Letters: N items, O objects, D width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

OBJECTS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("object", pa.int32(), nullable=False),  # its number among the item's objects
        pa.field("tag", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("x0", pa.float32(), nullable=False),  # pixels of the original picture, from its top left corner
        pa.field("y0", pa.float32(), nullable=False),
        pa.field("x1", pa.float32(), nullable=False),
        pa.field("y1", pa.float32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class ItemObjects:
    """All objects of a release, by item row.

    Attributes:
        table: `OBJECTS_SCHEMA`, O rows.
        vectors: float32 [O, D], of length 1.
        rows: int64 [O], ascending: the item row of each.
    """

    table: pa.Table
    vectors: Floats
    rows: Rows

    @staticmethod
    def of_items(table: pa.Table, vectors: Floats, item_ids: pa.ChunkedArray) -> ItemObjects:
        """Raises CorruptArtifact: they are of other items than these `N`, or there is not a vector for each."""
        rows = np.asarray(pc.fill_null(pc.index_in(table["item_id"], value_set=item_ids), -1), dtype=np.int64)
        is_in_order = not len(rows) or (rows[0] >= 0 and bool((np.diff(rows) >= 0).all()))
        if vectors.ndim != 2 or len(vectors) != len(table) or not is_in_order:
            raise CorruptArtifact("objects.npy or objects.parquet is of other items; run `recsys release build` again")
        return ItemObjects(table, vectors, rows)

    def told(self, row: int) -> list[dict[str, Any]]:
        """The objects of one item row, as values by `OBJECTS_SCHEMA`."""
        first, end = self._bounds(row)
        told: list[dict[str, Any]] = self.table.slice(first, end - first).to_pylist()
        return told

    def place(self, row: int, number: int) -> int | None:
        """Where an item's object stands among the `O`; None where it has no such."""
        first, end = self._bounds(row)
        found = np.flatnonzero(self._numbers[first:end] == number)
        return first + int(found[0]) if len(found) else None

    def nearest(self, place: int) -> tuple[Rows, Floats]:
        """Item rows int64 [I], each once and ascending, and the cosine float32 [I] of each one's best object to one
        object. Compares all: some 0.1 s for a million objects of 512 numbers."""
        cosines = self.vectors @ self.vectors[place]
        starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
        return self.rows[starts], np.maximum.reduceat(cosines, starts)

    @cached_property
    def _numbers(self) -> NDArray[np.int32]:
        return np.asarray(self.table["object"], dtype=np.int32)

    def _bounds(self, row: int) -> tuple[int, int]:
        first, end = np.searchsorted(self.rows, [row, row + 1]).tolist()
        return first, end
