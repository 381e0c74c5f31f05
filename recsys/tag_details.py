"""Who says which tag of an item, and on what grounds: `tags.parquet` of a release, read where somebody asks.

Letters: N items, R rows.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact
from recsys.tags import TAGS_SCHEMA

ROWS_READ_AT_ONCE = 4096
"""Rows of one group in the file: what a look-up reads."""


def write_tag_details(details: pa.Table, path: Path) -> None:
    """`TAGS_SCHEMA`, by item row."""
    pq.write_table(details, path, compression="zstd", row_group_size=ROWS_READ_AT_ONCE)


class TagDetails:
    """The rows of a file that stays open; for any number of threads."""

    def __init__(self, path: Path, item_ids: pa.ChunkedArray) -> None:
        """
        Args:
            path: a file of `write_tag_details`.
            item_ids: of the release's `N` items, in order.

        Raises:
            CorruptArtifact: it is none.
        """
        self._item_ids = item_ids
        self._lock = Lock()
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
            found = self._file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise CorruptArtifact(f"tags.parquet cannot be read ({error}); run `recsys release build` again") from None
        if found.remove_metadata() != TAGS_SCHEMA:
            raise CorruptArtifact("tags.parquet has other columns than tags have; run `recsys release build` again")

    def __len__(self) -> int:
        n_rows: int = self._file.metadata.num_rows
        return n_rows

    def of(self, row: int) -> list[dict[str, Any]]:
        """What is said of one item row, as values by `TAGS_SCHEMA`; nothing of one that came after the release.

        Raises:
            CorruptArtifact: the file's rows do not belong to the release's items.
        """
        first, end = np.searchsorted(self._rows, [row, row + 1]).tolist()
        if first == end:
            return []
        groups = np.searchsorted(self._group_ends, [first, end - 1], side="right").tolist()
        skipped = int(self._group_ends[groups[0] - 1]) if groups[0] else 0
        with self._lock:
            table = self._file.read_row_groups(range(groups[0], groups[1] + 1))
        rows: list[dict[str, Any]] = table.slice(first - skipped, end - first).to_pylist()
        return rows

    def table(self) -> pa.Table:
        """All of it."""
        with self._lock:
            return self._file.read()

    @cached_property
    def _group_ends(self) -> NDArray[np.int64]:
        """int64, how many rows the groups up to each one hold together."""
        metadata = self._file.metadata
        return np.cumsum([metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)], dtype=np.int64)

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        """int64 [R], ascending: the item row of each."""
        with self._lock:
            ids = self._file.read(["item_id"])["item_id"]
        rows = np.asarray(pc.fill_null(pc.index_in(ids, value_set=self._item_ids), -1), dtype=np.int64)
        if (rows < 0).any() or (np.diff(rows) < 0).any():
            raise CorruptArtifact("tags.parquet holds tags of other items; run `recsys release build` again")
        return rows
