"""Rows as a reader found them: columns under the names of the file, and the rows that could not be read at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.fields import BrokenText
from recsys.quarantine import Rejection

Lines = NDArray[np.int64]
# Arrow has no type stubs, so the left half of this union is Any to a type checker.
Column: TypeAlias = "pa.Array | list[Any]"


@dataclass(frozen=True)
class Batch:
    """Some readable rows of a file. Either `records` (JSON lines) or `columns` (CSV, Parquet) holds them.

    Attributes:
        n_rows: readable rows, `B`.
        lines: int64 [B], where each stands in the file, from 1.
        rejected: rows that are no JSON, no CSV or no UTF-8.
        raw: the text of row i, for the quarantine.
        share_read: how much of the file has been read after this batch, 0 to 1.
        all_names: names of all columns of the file, where `columns` leaves some out.
    """

    n_rows: int
    lines: Lines
    rejected: Sequence[Rejection]
    raw: Callable[[int], str]
    share_read: float
    columns: dict[str, Column] = field(default_factory=dict)
    records: list[dict[str, Any]] | None = None
    all_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names; for JSON lines, every key in the order it first occurs."""
        if self.records is None:
            return self.all_names or tuple(self.columns)
        seen: dict[str, None] = {}
        for record in self.records:
            if not seen.keys() >= record.keys():
                seen.update(dict.fromkeys(record))
        return tuple(seen)

    def column(self, name: str | None) -> Column | None:
        """The values of a column; None where there is no such column."""
        if name is None:
            return None
        if self.records is None:
            return self.columns.get(name)
        values = [record.get(name) for record in self.records]
        return values if any(value is not None for value in values) else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows as dicts of Python values."""
        if self.records is not None:
            yield from self.records
            return
        names = tuple(self.columns)
        values = [python_values(column) for column in self.columns.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(names, row, strict=True))


def python_values(column: Column) -> list[Any]:
    """A column as Python values. Times come as datetime, cut to microseconds."""
    if isinstance(column, list):
        return column
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        values = [_python_value(scalar) for scalar in column]
    if pa.types.is_map(column.type):
        return [None if each is None else dict(each) for each in values]
    return values


def _python_value(scalar: pa.Scalar) -> Any:
    """One value; what Python cannot hold becomes a text or a `BrokenText` that its rule then refuses."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return BrokenText()
    except (ValueError, OverflowError):
        return "a time outside the years 1 to 9999"


def csv_line(fields: Sequence[str]) -> str:
    """Fields as one line of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue()
