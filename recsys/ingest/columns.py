"""Whole columns of ids, numbers and objects at once: the rules of `recsys.catalog`, in Arrow."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from recsys.fields import BrokenText, encode_object, parse_id, parse_object
from recsys.ingest.batches import Column, python_values
from recsys.ingest.findings import Findings, mask_of
from recsys.quarantine import RowRefused
from recsys.types import MAX_ID_CHARACTERS

LARGEST_INTEGER = 2**63 - 1
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,17})\.\d{1,17}", re.ASCII)
_CONTROL = r"[\x00-\x1f\x7f\x{80}-\x{9f}]"


def id_column(column: Column | None, name: str, findings: Findings, *, required: bool = True) -> pa.Array:
    """string [B]: integers written out exactly, floats refused; null where absent or refused."""
    ids = _ids(column, name, findings)
    absent = ~mask_of(ids.is_valid())
    blank = mask_of(pc.match_substring_regex(ids, r"^[\s\pZ]*$"))
    if required:
        findings.add(absent, name, "missing", f"{name} is required and absent")
        findings.add(blank, name, "missing", f"{name} is required and empty")
    message = f"{name} has more than {MAX_ID_CHARACTERS} characters"
    findings.add(mask_of(pc.greater(pc.utf8_length(ids), MAX_ID_CHARACTERS)), name, "id_too_long", message, ids)
    control = mask_of(pc.match_substring_regex(ids, _CONTROL))
    findings.add(control, name, "control_character", f"{name} holds a control character", ids)
    kept = pc.if_else(pa.array(blank), pa.scalar(None, ids.type), ids) if blank.any() else ids
    return kept.cast(pa.string())


def _ids(column: Column | None, name: str, findings: Findings) -> pa.Array:
    if column is None:
        return pa.nulls(len(findings.refused), pa.string())
    if isinstance(column, list):
        return _ids_from_python(column, name, findings)
    return column if _is_text(column.type) else _ids_from_arrow(column, name, findings)


def _ids_from_python(values: list[Any], name: str, findings: Findings) -> pa.Array:
    if set(map(type, values)) <= {str, type(None)}:
        return pa.array(values, pa.string())
    ids: list[str | None] = []
    for row, value in enumerate(values):
        if value is None or type(value) is str:
            ids.append(value)
            continue
        try:
            ids.append(parse_id(value, name))
        except RowRefused as refused:
            ids.append(None)
            findings.add_row(row, refused)
    return pa.array(ids, pa.string())


def _ids_from_arrow(column: pa.Array, name: str, findings: Findings) -> pa.Array:
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_integer(kind):
        return column.cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return pa.array([None if each is None else str(int(each)) for each in column.to_pylist()], pa.string())
    message = f"{name} must be text or whole numbers, and this column is {kind}: export it as text"
    findings.add(mask_of(column.is_valid()), name, "wrong_type", message, column)
    return pa.nulls(len(column), pa.string())


def number_column(column: Column | None, name: str, findings: Findings, *, from_text: bool) -> pa.Array:
    """float64 [B], finite; null where absent or refused. Text counts as a number only in CSV (`from_text`)."""
    values = _numbers(column, name, findings, pa.float64(), from_text=from_text)
    not_finite = ~mask_of(pc.is_finite(values)) & mask_of(values.is_valid())
    findings.add(not_finite, name, "not_finite", f"{name} is NaN or infinite", values)
    return values


def integer_column(column: Column | None, name: str, findings: Findings, *, from_text: bool) -> pa.Array:
    """int64 [B], >= 0; null where absent or refused."""
    values = _numbers(column, name, findings, pa.int64(), from_text=from_text)
    findings.add(mask_of(pc.less(values, 0)), name, "out_of_range", f"{name} must not be negative", values)
    return values


def _numbers(column: Column | None, name: str, findings: Findings, to: pa.DataType, *, from_text: bool) -> pa.Array:
    if column is None:
        return pa.nulls(len(findings.refused), to)
    if isinstance(column, list):
        kinds = set(map(type, column)) - {type(None)}
        numeric = kinds <= ({float, int} if to == pa.float64() else {int})
        if not numeric and not (kinds == {str} and from_text):
            return _numbers_one_by_one(column, name, findings, to, from_text=from_text)
        column = pa.array(column) if kinds == {str} else _array_or_list(column, to)
    if isinstance(column, pa.Array) and not (_is_text(column.type) and not from_text):
        try:
            if not pa.types.is_boolean(column.type) and not pa.types.is_temporal(column.type):
                return column.cast(to)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass  # some of them are at fault: find out which
    return _numbers_one_by_one(python_values(column), name, findings, to, from_text=from_text)


def _array_or_list(values: list[Any], to: pa.DataType) -> Column:
    try:
        return pa.array(values, to)
    except (OverflowError, pa.ArrowInvalid):
        return values


def _numbers_one_by_one(
    values: list[Any], name: str, findings: Findings, to: pa.DataType, *, from_text: bool
) -> pa.Array:
    convert: Callable[[Any], float] = _float if to == pa.float64() else _integer
    numbers: list[float | None] = []
    for row, value in enumerate(values):
        if isinstance(value, str) and from_text:
            value = value.strip() or None
        try:
            if value is None or value is pa.NULL:
                numbers.append(None)
                continue
            if isinstance(value, bool | BrokenText | bytes) or (isinstance(value, str) and not from_text):
                raise ValueError
            numbers.append(convert(value))
        except (ValueError, TypeError, ArithmeticError):
            numbers.append(None)
            what = "a whole number" if to == pa.int64() else "a number"
            findings.add_row(row, RowRefused("wrong_type", name, f"{name} is not {what}", value=value))
    return pa.array(numbers, to)


def _float(value: Any) -> float:
    return float(value)


def _integer(value: Any) -> int:
    exact = Decimal(value) if isinstance(value, str) else value
    number = int(exact)
    if number != exact or abs(number) > LARGEST_INTEGER:
        raise ValueError
    return number


def object_column(column: Column | None, name: str, findings: Findings, *, from_text: bool) -> pa.Array:
    """string [B]: each a JSON object with sorted keys; null where absent, empty or refused."""
    if column is None:
        return pa.nulls(len(findings.refused), pa.string())
    texts: list[str | None] = []
    for row, value in enumerate(python_values(column)):
        try:
            texts.append(encode_object(parse_object(object_from_text(value, name) if from_text else value, name)))
        except RowRefused as refused:
            texts.append(None)
            findings.add_row(row, refused)
    return pa.array(texts, pa.string())


def object_from_text(value: Any, name: str) -> Any:
    """Text parsed as JSON (CSV and Parquet keep objects so); other values as they are."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        raise RowRefused("wrong_type", name, f"{name} is not JSON", value=value) from None


def with_keys(objects: pa.Array, keys: Mapping[str, list[Any]], name: str, findings: Findings) -> pa.Array:
    """The objects with one more key for each column of `keys`, where it has a value."""
    if not keys:
        return objects
    merged: list[dict[str, Any]] = []
    for row, text in enumerate(objects.to_pylist()):
        value = {key: values[row] for key, values in keys.items() if values[row] is not None}
        merged.append({**(msgspec.json.decode(text) if text else {}), **value})
    return object_column(merged, name, findings, from_text=False)


def typed_cell(text: str, separator: str) -> Any:
    """A CSV field of unknown type as it looks: a list where it holds `separator`, a plain number, or text.

    A code such as 007 or 1e5 stays text.
    """
    if separator in text:
        return [each.strip() for each in text.split(separator)]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
