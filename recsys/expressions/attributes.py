"""What items have under `attributes`: JSON objects, one a row, read one column at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from recsys.expressions.syntax import ATTRIBUTES, Path

MAX_KNOWN_PATHS = 20_000
ROWS_READ_AT_ONCE = 2_048
"""Objects that are handed to the JSON parser as one list: a call for each takes five times as long."""


def read_values(objects: pa.ChunkedArray, path: Path) -> list[Any]:
    """The value of each row under `path` (without `attributes`), None where there is none. The parser passes over all
    keys but the first of `path`."""
    first, rest = path[0], path[1:]
    row_type: Any = msgspec.defstruct("Row", [("value", Any, None)], rename={"value": first}, gc=False)
    decoder = msgspec.json.Decoder(list[row_type | None])
    decode_one = msgspec.json.Decoder(row_type | None).decode
    values = [None if row is None else row.value for row in _rows(objects, decoder.decode, decode_one)]
    return [value_at(value, rest) for value in values] if rest else values


def value_at(value: Any, path: Path) -> Any:
    """What stands in nested objects under `path`; None where one of them is absent, or is no object."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def known_paths(objects: pa.ChunkedArray) -> tuple[frozenset[Path], bool]:
    """All columns (with `attributes` in front), and whether these are all: at most `MAX_KNOWN_PATHS` are kept."""
    paths: set[Path] = set()
    decoder = msgspec.json.Decoder(list[dict[str, Any] | None])
    top: set[str] = set()
    for row in _rows(objects, decoder.decode, msgspec.json.Decoder(dict[str, Any] | None).decode):
        if not row:
            continue
        top.update(row)
        for key, value in row.items():
            if type(value) is dict:
                paths.update((ATTRIBUTES, key, *inner) for inner in paths_of(value))
        if len(top) + len(paths) > MAX_KNOWN_PATHS:
            return frozenset(paths | {(ATTRIBUTES, key) for key in top}), False
    return frozenset(paths | {(ATTRIBUTES, key) for key in top}), True


def paths_of(value: Mapping[str, Any]) -> Iterator[Path]:
    """The path of each key of nested objects."""
    for key, inner in value.items():
        yield (key,)
        if isinstance(inner, Mapping):
            yield from ((key, *each) for each in paths_of(inner))


def _rows(
    objects: pa.ChunkedArray, decode_all: Callable[[bytes], Sequence[Any]], decode_one: Callable[[str], Any]
) -> Iterator[Any]:
    """One decoded row after the other, None for a null and for one that is no JSON object: that row has nothing."""
    for start in range(0, len(objects), ROWS_READ_AT_ONCE):
        some = objects.slice(start, ROWS_READ_AT_ONCE)
        try:
            rows = decode_all(_as_one_list(some))
        except (msgspec.DecodeError, RecursionError):
            rows = ()
        if len(rows) == len(some):
            yield from rows
        else:
            yield from (_row(text, decode_one) for text in some.to_pylist())


def _as_one_list(objects: pa.ChunkedArray) -> bytes:
    """A JSON list of them all, put together without a Python object for each."""
    texts = pc.fill_null(pc.cast(objects, pa.string()).combine_chunks(), "null")
    lines = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return b"[%b]" % pc.binary_join(lines, ",")[0].as_buffer()


def _row(text: str | None, decode_one: Callable[[str], Any]) -> Any:
    try:
        return None if text is None else decode_one(text)
    except (msgspec.DecodeError, RecursionError):
        return None
