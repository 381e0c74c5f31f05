"""Items and users: row by row through the rules that requests are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from recsys.catalog import (
    ITEMS_SCHEMA,
    MAX_DESCRIPTION_CHARACTERS,
    CatalogItem,
    DataConfig,
    ItemRules,
    items_table,
    validate_item,
)
from recsys.fields import encode_object, parse_id, parse_object, parse_text
from recsys.ingest.batches import Batch
from recsys.ingest.columns import object_from_text, typed_cell
from recsys.ingest.layout import Layout
from recsys.ingest.readers import read_batches
from recsys.ingest.tally import Tally
from recsys.quarantine import Rejection, RowRefused

USERS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        ("attributes", pa.string()),  # a JSON object with sorted keys; null = none
        ("text", pa.string()),
        ("line", pa.int64()),
    ]
)
_TRUE, _FALSE = {"true", "t", "yes", "y", "1"}, {"false", "f", "no", "n", "0", ""}
# How Gorse writes "no time" (Go's zero time).
_NO_TIME = "0001-01-01"
User = tuple[str, str | None, str | None]
Row = TypeVar("Row")


def read_items(tally: Tally, config: DataConfig) -> pa.Table:
    """Accepted items (`ITEMS_SCHEMA`) in the order of the file. Of rows with one item_id the last wins, as upserts do.

    Raises:
        InputError: the file is not what it claims.
    """
    from_csv = tally.file.format == "csv"
    tables: list[pa.Table] = []
    for batch, layout in _batches(tally, config):
        rules = ItemRules(file_root=config.image_root, times=layout.times)

        def parse(row: dict[str, Any], layout: Layout = layout, rules: ItemRules = rules) -> CatalogItem:
            return validate_item(item_fields(row, layout, from_csv=from_csv), rules)

        items, rows = _accepted(tally, batch, parse)
        tables.append(items_table(items, batch.lines[rows].tolist()))
    return _last_of_each(_joined(tables, ITEMS_SCHEMA), "item_id", tally)


def read_users(tally: Tally, config: DataConfig) -> pa.Table:
    """Accepted users (`USERS_SCHEMA`); of rows with one user_id the last wins.

    Raises:
        InputError: the file is not what it claims.
    """
    from_csv = tally.file.format == "csv"
    tables: list[pa.Table] = []
    for batch, layout in _batches(tally, config):

        def parse(row: dict[str, Any], layout: Layout = layout) -> User:
            return _user(item_fields(row, layout, from_csv=from_csv))

        users, rows = _accepted(tally, batch, parse)
        columns = [list(column) for column in zip(*users, strict=True)] if users else [[], [], []]
        tables.append(pa.table([*columns, batch.lines[rows]], schema=USERS_SCHEMA))
    return _last_of_each(_joined(tables, USERS_SCHEMA), "user_id", tally)


def item_fields(row: dict[str, Any], layout: Layout, *, from_csv: bool) -> dict[str, Any]:
    """A row of a file under our names, with what files may write otherwise brought to the types of a request."""
    fields = {ours: row[theirs] for ours, theirs in layout.columns.items() if row.get(theirs) is not None}
    if "categories" in fields:
        fields["categories"] = _names(fields["categories"], layout.category_separator)
    if "hidden" in fields:
        fields["hidden"] = _true_or_false(fields["hidden"])
    if from_csv and "price" in fields:
        fields["price"] = _number(fields["price"])
    if "attributes" in fields:
        fields["attributes"] = _attributes(fields["attributes"], layout)
    if layout.keys:
        keys = {key: row[theirs] for key, theirs in layout.keys.items() if row.get(theirs) not in (None, "")}
        if from_csv:
            keys = {key: typed_cell(value, layout.category_separator) for key, value in keys.items()}
        fields["attributes"] = {**(fields.get("attributes") or {}), **_without_no_time(keys)}
    return fields


def _batches(tally: Tally, config: DataConfig) -> Iterator[tuple[Batch, Layout]]:
    for batch, layout in read_batches(tally.file, config):
        tally.begin(batch, layout)
        if layout is not None:
            yield batch, layout
        tally.end(batch)


def _accepted(tally: Tally, batch: Batch, parse: Callable[[dict[str, Any]], Row]) -> tuple[list[Row], list[int]]:
    accepted: list[Row] = []
    rows: list[int] = []
    rejections: list[Rejection] = []
    for row, values in enumerate(batch.rows()):
        try:
            accepted.append(parse(values))
            rows.append(row)
        except RowRefused as refused:
            rejections.append(tally.refuse_row(batch, row, refused))
    tally.refuse(rejections)
    return accepted, rows


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _last_of_each(table: pa.Table, key: str, tally: Tally) -> pa.Table:
    codes = np.asarray(table[key].combine_chunks().dictionary_encode().indices, dtype=np.int64)
    last = np.zeros(len(table), np.bool_)
    _, from_end = np.unique(codes[::-1], return_index=True)
    last[len(table) - 1 - from_end] = True
    if last.all():
        return table
    earlier = table.filter(pa.array(~last))
    message = f"a later row has the same {key}; the last one counts"
    tally.refuse(
        Rejection(row.pop("line"), key, "duplicate", message, msgspec.json.encode(row).decode())
        for row in earlier.to_pylist()
    )
    return table.filter(pa.array(last))


def _user(fields: dict[str, Any]) -> User:
    user_id = parse_id(fields.get("user_id"), "user_id")
    attributes = encode_object(parse_object(fields.get("attributes"), "attributes"))
    return user_id, attributes, parse_text(fields.get("text"), "text", MAX_DESCRIPTION_CHARACTERS)


def _names(value: Any, separator: str) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError):
            pass  # a name that begins with a bracket
    return text.split(separator)


def _true_or_false(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else value
    return bool(value) if type(value) is int and value in (0, 1) else value


def _number(value: Any) -> Any:
    text = value.strip()
    try:
        return float(text) if text else None
    except ValueError:
        return value


def _attributes(value: Any, layout: Layout) -> Any:
    if layout.dialect != "gorse":
        return object_from_text(value, "attributes")
    try:
        labels = object_from_text(value, "attributes")
    except RowRefused:  # before JSON, Gorse joined labels with bars
        labels = value.split(layout.category_separator)
    return labels if labels is None or isinstance(labels, dict) else {"labels": labels}


def _without_no_time(keys: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if not (isinstance(value, str) and value.startswith(_NO_TIME))}
