"""What is wrong with the rows of one batch: the first fault of each row counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.quarantine import Reason, RowRefused

Mask = NDArray[np.bool_]
MAX_SAMPLES = 50


class Fault(NamedTuple):
    """Why one row is refused."""

    row: int
    column: str
    reason: Reason
    message: str


class Findings:
    """Faults by row.

    Attributes:
        refused: bool [B].
        samples: reason → some of the values at fault, for advice.
    """

    def __init__(self, n_rows: int) -> None:
        self.refused: Mask = np.zeros(n_rows, np.bool_)
        self.samples: dict[Reason, list[Any]] = {}
        self._faults: list[Fault] = []

    def add(self, mask: Mask, column: str, reason: Reason, message: str, values: Any = None) -> None:
        """Refuse the rows where `mask` (bool [B]) holds; `values` is the column at fault."""
        rows = np.flatnonzero(mask & ~self.refused)
        if not len(rows):
            return
        self.refused[rows] = True
        self._faults += [Fault(row, column, reason, message) for row in rows.tolist()]
        if values is not None:
            some = rows[:MAX_SAMPLES].tolist()
            taken = [values[row] for row in some] if isinstance(values, list) else _scalars(values, some)
            self._sample(reason, taken)

    def add_row(self, row: int, refused: RowRefused) -> None:
        if not self.refused[row]:
            self.refused[row] = True
            self._faults.append(Fault(row, refused.column, refused.reason, str(refused)))
            self._sample(refused.reason, [refused.value])

    def _sample(self, reason: Reason, values: list[Any]) -> None:
        kept = self.samples.setdefault(reason, [])
        kept += values[: MAX_SAMPLES - len(kept)]

    def __iter__(self) -> Iterator[Fault]:
        """Faults by row."""
        yield from sorted(self._faults)


def _scalars(column: pa.Array, rows: list[int]) -> list[Any]:
    try:
        return [column[row].as_py() for row in rows]
    except (ValueError, OverflowError):  # times beyond datetime's years
        return []


def mask_of(booleans: Any) -> Mask:
    """bool [B] of an Arrow array of booleans; null counts as false."""
    return np.asarray(pc.fill_null(booleans, False), dtype=np.bool_)
