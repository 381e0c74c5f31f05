"""Refused rows: why, where, and what they looked like. A bad row never stops a good one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from recsys.errors import InvalidRequest

MAX_RAW_CHARACTERS = 300

Reason = Literal[
    "not_json",  # a line that is no JSON object
    "not_csv",  # quotes that do not fit
    "wrong_columns",  # more or fewer fields than the header
    "broken_utf8",
    "missing",  # a required field is absent or empty
    "id_too_long",
    "control_character",
    "wrong_type",
    "not_finite",  # NaN or infinity
    "out_of_range",
    "too_long",
    "duplicate",
    "unknown_item",
    "unknown_tag",
    "unknown_field",
    "bad_time",
    "naive_time",
    "ambiguous_time",
    "impossible_time",
    "future_time",
    "ends_before_it_starts",
    "outside_folder",
    "bad_reference",
]

QUARANTINE_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("field", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("raw", pa.string()),
    ]
)


class RowRefused(InvalidRequest):
    """One row, or one request body, breaks a rule.

    Attributes:
        reason: a code that programs and summaries count by.
        column: the field at fault ("" = the whole row); `field` is the same as a JSON pointer.
        value: what was found there, for hints.
    """

    def __init__(self, reason: Reason, column: str, message: str, *, value: Any = None) -> None:
        super().__init__(message, field=f"/{column}" if column else "")
        self.reason: Reason = reason
        self.column = column
        self.value = value


class Rejection(NamedTuple):
    """One quarantined row. `line` counts from 1: the line in a text file, the row in a Parquet file."""

    line: int
    column: str
    reason: Reason
    message: str
    raw: str


class Quarantine:
    """Collects refused rows as Arrow batches, so that a million of them stay cheap."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []

    def add(self, file: str, rejections: Iterable[Rejection]) -> None:
        """`file` is the name of the file that the rows come from."""
        rows = list(rejections)
        if not rows:
            return
        lines, columns, reasons, messages, raws = zip(*rows, strict=True)
        cut = [clean_text(raw) for raw in raws]
        arrays = [[file] * len(rows), lines, columns, reasons, messages, cut]
        self._batches.append(
            pa.RecordBatch.from_arrays(
                [pa.array(values, each.type) for values, each in zip(arrays, QUARANTINE_SCHEMA, strict=True)],
                schema=QUARANTINE_SCHEMA,
            )
        )

    def table(self) -> pa.Table:
        """All refused rows (`QUARANTINE_SCHEMA`), by file, then line."""
        table = pa.Table.from_batches(self._batches, QUARANTINE_SCHEMA)
        return table.sort_by([("file", "ascending"), ("line", "ascending")]) if len(table) else table


def clean_text(raw: str) -> str:
    """At most `MAX_RAW_CHARACTERS`, and always valid UTF-8: what is broken shows as U+FFFD."""
    cut = raw if len(raw) <= MAX_RAW_CHARACTERS else raw[: MAX_RAW_CHARACTERS - 1] + "…"
    return cut.encode("utf-8", "replace").decode("utf-8") if not cut.isascii() else cut
