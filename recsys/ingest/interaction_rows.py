"""Interactions: whole columns at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.catalog import DataConfig
from recsys.ingest.batches import Batch, python_values
from recsys.ingest.columns import id_column, integer_column, number_column, object_column, typed_cell, with_keys
from recsys.ingest.findings import Findings, mask_of
from recsys.ingest.layout import Layout
from recsys.ingest.readers import read_batches
from recsys.ingest.tally import Tally
from recsys.ingest.times import times_ms
from recsys.interactions import INTERACTIONS_SCHEMA, duplicate_rows, with_event_ids
from recsys.quarantine import Rejection
from recsys.types import DEFAULT_EVENT_TYPE

FUTURE_TOLERANCE_MS = 5 * 60 * 1000
# Before 1971 lie the zeros that stand for "no time", and epoch seconds that are read as milliseconds.
EARLIEST_MS = 365 * 24 * 3600 * 1000
# event_id is null where the file gives none, until all files are read and equal rows can be counted.
_RAW_SCHEMA = INTERACTIONS_SCHEMA.set(0, pa.field("event_id", pa.string()))


@dataclass(frozen=True, slots=True)
class Known:
    """What interactions are checked against."""

    item_ids: pa.Array
    now_ms: int


def read_interactions(tally: Tally, config: DataConfig, known: Known) -> pa.Table:
    """The accepted rows of one file; event_id is null where the file gives none.

    Raises:
        InputError: the file is not what it claims.
    """
    tables: list[pa.Table] = []
    for batch, layout in read_batches(tally.file, config):
        tally.begin(batch, layout)
        if layout is not None:
            tables.append(_accepted(batch, layout, tally, known))
        tally.end(batch)
    return pa.concat_tables(tables) if tables else _RAW_SCHEMA.empty_table()


def one_table(tables: list[pa.Table], tallies: list[Tally]) -> pa.Table:
    """All files as one table (`INTERACTIONS_SCHEMA`) in their order; of rows with one event_id the first counts."""
    table = with_event_ids(pa.concat_tables(tables, promote_options="default").unify_dictionaries())
    duplicate = duplicate_rows(table)
    if duplicate.any():
        later = table.filter(pa.array(duplicate))
        file_names = later["file"].cast(pa.string())
        for tally in tallies:
            rows = later.filter(pc.equal(file_names, tally.file.name)).drop(["file"]).to_pylist()
            tally.refuse(_duplicate(row) for row in rows)
        table = table.filter(pa.array(~duplicate))
    return table.cast(INTERACTIONS_SCHEMA)


def _duplicate(row: dict[str, Any]) -> Rejection:
    line = row.pop("line")
    raw = msgspec.json.encode({name: value for name, value in row.items() if value is not None}).decode()
    return Rejection(line, "event_id", "duplicate", "an earlier row has the same event_id", raw)


def _accepted(batch: Batch, layout: Layout, tally: Tally, known: Known) -> pa.Table:
    findings = Findings(batch.n_rows)
    from_csv = tally.file.format == "csv"

    def column(ours: str) -> Any:
        return batch.column(layout.columns.get(ours))

    user_ids = id_column(column("user_id"), "user_id", findings)
    item_ids = id_column(column("item_id"), "item_id", findings)
    event_ids = id_column(column("event_id"), "event_id", findings, required=False)
    occurred_at = column("occurred_at")
    occurred_at_ms = pa.nulls(batch.n_rows, pa.int64())
    if occurred_at is not None:
        occurred_at_ms = times_ms(occurred_at, "occurred_at", layout.times, findings)
        _check_times(occurred_at_ms, occurred_at, known.now_ms, findings)
    positions = integer_column(column("position"), "position", findings, from_text=from_csv)
    event_types = id_column(column("event_type"), "event_type", findings, required=False)
    values = number_column(column("value"), "value", findings, from_text=from_csv)
    recommendation_ids = id_column(column("recommendation_id"), "recommendation_id", findings, required=False)
    contexts = object_column(column("context"), "context", findings, from_text=tally.file.format != "jsonl")
    contexts = with_keys(contexts, _keys(batch, layout, from_csv=from_csv), "context", findings)
    unknown = ~mask_of(pc.is_in(item_ids, value_set=known.item_ids))
    findings.add(unknown, "item_id", "unknown_item", "item_id is not in the items file", item_ids)
    nothing = pa.nulls(batch.n_rows, pa.int64())
    file_name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.n_rows, np.int32)), pa.array([tally.file.name]))
    table = pa.table(
        {
            "event_id": event_ids,
            "user_id": user_ids,
            "item_id": item_ids,
            "event_type": event_types.fill_null(DEFAULT_EVENT_TYPE),
            "value": values,
            "occurred_at_ms": occurred_at_ms,
            "position": nothing if tally.file.exported else positions,
            "context": contexts,
            "recommendation_id": recommendation_ids,
            "slate_position": positions if tally.file.exported else nothing,
            "file": file_name,
            "line": batch.lines,
        }
    )
    tally.refuse_findings(batch, findings)
    return table.filter(pa.array(~findings.refused)).cast(_RAW_SCHEMA)


def _check_times(milliseconds: pa.Array, original: Any, now_ms: int, findings: Findings) -> None:
    future = mask_of(pc.greater(milliseconds, now_ms + FUTURE_TOLERANCE_MS))
    findings.add(future, "occurred_at", "future_time", "occurred_at lies in the future", original)
    message = "occurred_at lies before 1971: a missing time written as zero, or seconds read as milliseconds"
    early = mask_of(pc.less(milliseconds, EARLIEST_MS))
    findings.add(early, "occurred_at", "impossible_time", message, original)


def _keys(batch: Batch, layout: Layout, *, from_csv: bool) -> dict[str, list[Any]]:
    keys: dict[str, list[Any]] = {}
    for key, theirs in layout.keys.items():
        column = batch.column(theirs)
        if column is not None:
            values = python_values(column)
            separator = layout.category_separator
            keys[key] = [value and typed_cell(value, separator) for value in values] if from_csv else values
    return keys
