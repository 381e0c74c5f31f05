"""Typed columns from Arrow columns, and from JSON values of any type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.expressions.values import (
    Dictionary,
    Flags,
    Key,
    Lists,
    Numbers,
    Places,
    Texts,
    TypedColumn,
    as_double,
    key_of,
)

SPREAD_FROM_SHARE = 0.25
"""From this share of rows on, a part is kept over all rows: passing over the others costs less than finding its own."""


def numbers_column(column: pa.ChunkedArray) -> TypedColumn:
    """From any numeric column; a null is missing."""
    values = np.asarray(pc.fill_null(pc.cast(column, pa.float64()), float("nan")), dtype=np.float64)
    return TypedColumn(len(values), numbers=Numbers(values))


def times_column(column: pa.ChunkedArray) -> TypedColumn:
    """From a column of timestamps: UTC milliseconds as numbers (below 2**53, so exact)."""
    return numbers_column(pc.cast(pc.cast(column, pa.timestamp("ms", "UTC")), pa.int64()))


def flags_column(column: pa.ChunkedArray) -> TypedColumn:
    """From a column of booleans; null is False."""
    values = np.asarray(pc.fill_null(column, False), dtype=np.int8)
    return TypedColumn(len(values), flags=Flags(values))


def texts_column(column: pa.ChunkedArray) -> TypedColumn:
    codes, dictionary = _coded_texts(column.combine_chunks())
    return TypedColumn(len(codes), texts=Texts(codes, dictionary))


def lists_column(column: pa.ChunkedArray) -> TypedColumn:
    """From a column of lists of texts; null is an empty list."""
    lists = pc.cast(column.combine_chunks(), pa.large_list(pa.large_string()))
    coded = pc.list_flatten(lists).dictionary_encode()
    code_of: dict[Key, int] = {text: code for code, text in enumerate(coded.dictionary.to_pylist())}
    codes = np.asarray(pc.fill_null(coded.indices, -1), dtype=np.int32)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), dtype=np.int64)
    return TypedColumn(len(lengths), lists=_lists(lengths, codes, code_of))


def values_column(values: Sequence[Any]) -> TypedColumn:
    """From one JSON value a row: text, number, true or false, list of these; None, [] and {} are missing."""
    if len(values) - values.count(None) >= max(1, SPREAD_FROM_SHARE * len(values)):
        column = _of_one_type(values, set(map(type, values)) - {type(None)})
        if column is not None:
            return column
    return _of_any_type(values)


def _of_one_type(values: Sequence[Any], types: set[type]) -> TypedColumn | None:
    """The same where one part holds all there is, in a fifth of the time; None where it does not."""
    try:
        if types == {str}:
            return texts_column(pa.chunked_array([pa.array(values, pa.large_string())]))
        if types == {bool}:
            return TypedColumn(
                len(values), flags=Flags(np.array([-1 if each is None else each for each in values], np.int8))
            )
        if types <= {int, float}:
            return TypedColumn(len(values), numbers=Numbers(np.array(values, dtype=np.float64)))
        if types == {list} and set(map(type, chain.from_iterable(filter(None, values)))) <= {str}:
            return lists_column(pa.chunked_array([pa.array(values, pa.large_list(pa.large_string()))]))
    except (UnicodeEncodeError, OverflowError):  # half a surrogate pair; a number beyond all doubles
        return None
    return None


def _of_any_type(values: Sequence[Any]) -> TypedColumn:
    rows: dict[type, list[int]] = {str: [], float: [], bool: [], list: [], dict: []}
    of_type: dict[type, list[Any]] = {each: [] for each in rows}
    for row, value in enumerate(values):
        if value is None or value in ([], (), {}):
            continue
        kind = type(value)
        if kind not in rows:
            kind = float if kind is int else list if kind is tuple else dict
        rows[kind].append(row)
        of_type[kind].append(value)
    n_rows = len(values)
    numbers = np.array([as_double(value) for value in of_type[float]], dtype=np.float64)
    return TypedColumn(
        n_rows,
        numbers=Numbers(*_spread(numbers, rows[float], n_rows, np.nan)) if rows[float] else None,
        texts=_texts_part(of_type[str], rows[str], n_rows) if rows[str] else None,
        flags=Flags(*_spread(np.array(of_type[bool], dtype=np.int8), rows[bool], n_rows, -1)) if rows[bool] else None,
        lists=_lists_part(of_type[list], rows[list]) if rows[list] else None,
        others=np.array(rows[dict], dtype=np.int32) if rows[dict] else None,
    )


def _texts_part(texts: Sequence[str], rows: Sequence[int], n_rows: int) -> Texts:
    try:
        array = pa.array(texts, pa.large_string())
    except UnicodeEncodeError:  # half a surrogate pair, which no filter can name
        array = pa.array([text.encode("utf-8", "replace").decode() for text in texts], pa.large_string())
    codes, dictionary = _coded_texts(array)
    codes, kept_rows = _spread(codes, rows, n_rows, -1)
    return Texts(codes, dictionary, kept_rows)


def _lists_part(lists: Sequence[Iterable[Any]], rows: Sequence[int]) -> Lists:
    code_of: dict[Key, int] = {}
    codes: list[int] = []
    lengths = np.zeros(len(lists), dtype=np.int64)
    for place, elements in enumerate(lists):
        before = len(codes)
        for element in elements:
            key = key_of(element)
            codes.append(-1 if key is None else code_of.setdefault(key, len(code_of)))
        lengths[place] = len(codes) - before
    return _lists(lengths, np.array(codes, dtype=np.int32), code_of, np.array(rows, dtype=np.int32))


def _lists(lengths: NDArray[np.int64], codes: Places, code_of: Mapping[Key, int], rows: Places | None = None) -> Lists:
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    owners = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    return Lists(offsets, codes, code_of, owners, rows)


def _coded_texts(texts: pa.Array) -> tuple[Places, Dictionary]:
    """Codes int32 [N] in the order of the texts' code points (which is that of their UTF-8), -1 for null."""
    coded = pc.cast(texts, pa.large_string()).dictionary_encode()
    order = pc.array_sort_indices(coded.dictionary)
    rank = np.empty(len(order) + 1, dtype=np.int32)
    rank[np.asarray(order)] = np.arange(len(order), dtype=np.int32)
    rank[-1] = -1
    return rank[np.asarray(pc.fill_null(coded.indices, -1))], Dictionary(coded.dictionary.take(order))


def _spread(values: NDArray[Any], rows: Sequence[int], n_rows: int, fill: float) -> tuple[NDArray[Any], Places | None]:
    """The values over all rows, or with the rows they are of, whichever is passed over faster."""
    places = np.array(rows, dtype=np.int32)
    if len(places) < SPREAD_FROM_SHARE * n_rows:
        return values, places
    spread = np.full(n_rows, fill, dtype=values.dtype)
    spread[places] = values
    return spread, None
