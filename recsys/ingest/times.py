"""A whole column of times at once: the same rules as `recsys.times`, in Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.ingest.batches import python_values
from recsys.ingest.findings import Findings, mask_of
from recsys.quarantine import RowRefused
from recsys.times import CANONICAL, LATEST_MS, MESSAGES, NAIVE, NUMBER, ZONED, TimeRules, parse_time_ms

Mask = NDArray[np.bool_]
MICROSECONDS_UTC = pa.timestamp("us", "UTC")


def times_ms(column: pa.Array | list[Any], name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    """int64 [B], UTC milliseconds, null where there is no time; rows that break a rule go to `findings`."""
    if isinstance(column, list):
        return _python_values(column, name, rules, findings)
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.int64())
    if pa.types.is_timestamp(kind):
        return _timestamps(column, name, rules, findings)
    if pa.types.is_date(kind):
        return _timestamps(column.cast(pa.timestamp("ms")), name, rules, findings)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(column, name, rules, findings)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _texts(column, name, rules, findings)
    return _one_by_one(column.to_pylist(), name, rules, findings)


def _python_values(values: list[Any], name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return _texts(pa.array(values, pa.string()), name, rules, findings)
    if kinds <= {int} and all(each is None or abs(each) <= LATEST_MS for each in values):
        return _numbers(pa.array(values, pa.int64()), name, rules, findings)
    return _one_by_one(values, name, rules, findings)


def _one_by_one(values: list[Any], name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    """The slow way, for columns of several kinds and for texts that Arrow does not parse."""
    milliseconds: list[int | None] = []
    for row, value in enumerate(values):
        try:
            milliseconds.append(parse_time_ms(value, name, rules))
        except RowRefused as refused:
            milliseconds.append(None)
            findings.add_row(row, refused)
    return pa.array(milliseconds, pa.int64())


def _timestamps(column: pa.Array, name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    if column.type.tz is None:
        if rules.timezone is None:
            mask = mask_of(column.is_valid())
            findings.add(mask, name, "naive_time", f"{name} {MESSAGES['naive_time']}", column)
            return pa.nulls(len(column), pa.int64())
        try:
            column = _with_zone(column, rules.timezone)
        except pa.ArrowInvalid:  # Arrow needs the system's table of zones, Python brings its own
            return _one_by_one(python_values(column), name, rules, findings)
    # Parquet holds milliseconds or finer, so this only cuts digits off.
    return column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())


def _with_zone(column: pa.Array, timezone: str) -> pa.Array:
    return pc.assume_timezone(column, timezone, ambiguous="earliest", nonexistent="latest")


def _numbers(column: pa.Array, name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    if rules.ms_per_unit is None:
        mask = mask_of(column.is_valid())
        findings.add(mask, name, "ambiguous_time", f"{name} {MESSAGES['ambiguous_time']}", column)
        return pa.nulls(len(column), pa.int64())
    if pa.types.is_floating(column.type):
        values = np.floor(column.cast(pa.float64()).to_numpy(zero_copy_only=False) * rules.ms_per_unit)
        bad = mask_of(column.is_valid()) & ~np.isfinite(values)
        findings.add(bad, name, "not_finite", f"{name} must be finite", column)
    else:
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        values = np.multiply(values, rules.ms_per_unit, dtype=np.float64)
        bad = np.zeros(len(column), np.bool_)
    too_far = ~bad & (np.abs(np.nan_to_num(values)) > LATEST_MS)
    findings.add(too_far, name, "impossible_time", f"{name} is beyond the year 9999", column)
    # Up to LATEST_MS a float64 holds every whole millisecond exactly.
    dropped = bad | too_far | ~mask_of(column.is_valid())
    return pa.array(np.where(dropped, 0, np.nan_to_num(values)).astype(np.int64), mask=dropped)


def _texts(column: pa.Array, name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)
    present = mask_of(text.is_valid())
    zoned, naive, number = (mask_of(pc.match_substring_regex(text, pattern)) for pattern in (ZONED, NAIVE, NUMBER))
    findings.add(present & ~(zoned | naive | number), name, "bad_time", f"{name} {MESSAGES['bad_time']}", column)
    if rules.timezone is None:
        findings.add(naive, name, "naive_time", f"{name} {MESSAGES['naive_time']}", column)
    if rules.ms_per_unit is None:
        findings.add(number, name, "ambiguous_time", f"{name} {MESSAGES['ambiguous_time']}", column)
    fine = (zoned | (naive & (rules.timezone is not None))) & present
    milliseconds = pa.nulls(len(column), pa.int64())
    if zoned.any():
        milliseconds = pc.coalesce(milliseconds, _parsed(_where(text, zoned), name, rules, findings, MICROSECONDS_UTC))
    if (naive & fine).any():
        milliseconds = pc.coalesce(
            milliseconds, _parsed(_where(text, naive), name, rules, findings, pa.timestamp("us"))
        )
    if number.any() and rules.ms_per_unit is not None:
        values = [each and each.strip() for each in _where(text, number).to_pylist()]
        milliseconds = pc.coalesce(milliseconds, _digits(values, name, rules, findings))
    return milliseconds


def _digits(values: list[str | None], name: str, rules: TimeRules, findings: Findings) -> pa.Array:
    try:
        numbers = pa.array([None if each is None else int(each) for each in values], pa.int64())
    except ValueError:  # some have decimals
        return _one_by_one(values, name, rules, findings)
    return _numbers(numbers, name, rules, findings)


def _parsed(text: pa.Array, name: str, rules: TimeRules, findings: Findings, to: pa.DataType) -> pa.Array:
    original = text
    for pattern, replacement in CANONICAL if to.tz else CANONICAL[3:]:
        text = pc.replace_substring_regex(text, pattern, replacement)
    try:
        parsed = text.cast(to)
        if rules.timezone is not None and not to.tz:
            parsed = _with_zone(parsed, rules.timezone)
    except pa.ArrowInvalid:  # a 30th of February, say
        return _one_by_one(original.to_pylist(), name, rules, findings)
    return _floor_ms(parsed)


def _floor_ms(column: pa.Array) -> pa.Array:
    microseconds = column.cast(pa.int64())
    present = microseconds.is_valid()
    values = np.asarray(microseconds.fill_null(0), dtype=np.int64) // 1000
    return pa.array(values, mask=~mask_of(present))


def _where(column: pa.Array, mask: Mask) -> pa.Array:
    return pc.if_else(pa.array(mask), column, pa.scalar(None, column.type))
