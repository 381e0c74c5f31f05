"""The names of the sources, and their rows joined without repeating one.

Letters: C candidates, F rows of one source, N + M rows of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import local
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
SourceName = Literal[
    "pinned", "ann", "similar", "category", "trending", "recent", "explore", "popular", "content", "given"
]
SOURCES: tuple[SourceName, ...] = (
    "pinned",
    "ann",
    "similar",
    "category",
    "trending",
    "recent",
    "explore",
    "popular",
    "content",
    "given",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What one source brought, best first: item rows int64 [F], no row twice, none negative."""

    source: SourceName
    item_rows: Rows


class _Scratch(local):
    """Marks over all rows for `merge`, one array a thread; all zero between two merges."""

    marks: NDArray[np.int32] = np.empty(0, np.int32)


_SCRATCH = _Scratch()


def merge(found: Sequence[Found]) -> tuple[Rows, Rows]:
    """Each row once, in the order of first appearance, with the bit set of all sources that brought it.

    Linear in the rows that were found: sorting them would cost ten times as much.

    Returns:
        item_rows int64 [C], sources int64 [C] (bit i = `SOURCES[i]`).
    """
    parts = [part for part in found if len(part.item_rows)]
    if not parts:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.concatenate([part.item_rows for part in parts]).astype(np.int64, copy=False)
    marks = _marks(int(rows.max()) + 1)
    places = np.arange(len(rows), 0, -1, dtype=np.int32)
    marks[rows[::-1]] = places[::-1]  # of a row that is written twice the last write stays: its first appearance
    merged = rows[marks[rows] == places]
    marks[merged] = 0
    for part in parts:
        marks[part.item_rows] |= bit_of(part.source)
    sources = marks[merged].astype(np.int64)
    marks[merged] = 0
    return merged, sources


def _marks(n_rows: int) -> NDArray[np.int32]:
    if len(_SCRATCH.marks) < n_rows:
        _SCRATCH.marks = np.zeros(n_rows + n_rows // 8, np.int32)
    return _SCRATCH.marks


_BITS = {name: 1 << at for at, name in enumerate(SOURCES)}


def bit_of(source: SourceName) -> int:
    """The bit that stands for a source."""
    return _BITS[source]


def source_of(bits: int) -> SourceName:
    """The first named source of a bit set: the one an answer names."""
    return SOURCES[(bits & -bits).bit_length() - 1]
