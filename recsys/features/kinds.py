"""What items have in common: the values of a column as codes, equal where the values are."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.tags import tags_of

Codes = NDArray[np.int32]
ATTRIBUTES, TAGS = "attributes.", "tags"
MAX_VALUES = 16  # of one item: what it has beyond them is not counted


class Kinds:
    """Codes of a release's items by column; each column is read when it is first asked for."""

    def __init__(self, items: pa.Table) -> None:
        self._items = items
        self._columns: dict[str, Codes] = {}

    def of_rows(self, column: str, rows: NDArray[np.int64]) -> Codes:
        """int32 [len(rows), G], -1 where an item has fewer; G is the most that one item has, 1..16.

        `column` is a field (one entry of a list counts like one value), `tags` (as filters read them), or
        `attributes.NAME`; one that nobody has is -1 everywhere. In an empty catalogue any row may be asked for.
        """
        codes = self._columns.get(column)
        if codes is None:
            codes = self._columns[column] = self._read(column)
        if not len(codes):
            return np.full((len(rows), 1), -1, dtype=np.int32)
        taken: Codes = codes.take(rows, axis=0)
        return taken

    def of_fields(self, column: str, fields: Mapping[str, Any]) -> Codes:
        """int32 [G], the same for an item that was upserted."""
        width = self.of_rows(column, np.zeros(1, np.int64)).shape[1]
        out = np.full(width, -1, dtype=np.int32)
        mine = _codes(_value_of(column, fields))[:width]
        out[: len(mine)] = mine
        return out

    def _read(self, column: str) -> Codes:
        if column == "categories" or (column == TAGS and TAGS in self._items.column_names):
            return _of_lists(self._items[column].combine_chunks())
        name = "attributes" if column.startswith(ATTRIBUTES) or column == TAGS else column
        values = self._items[name].to_pylist() if name in self._items.column_names else [None] * len(self._items)
        each = [_codes(_value_of(column, {name: value}))[:MAX_VALUES] for value in values]
        out = np.full((len(each), max(map(len, each), default=0) or 1), -1, dtype=np.int32)
        for row, codes in enumerate(each):
            out[row, : len(codes)] = codes
        return out


def _of_lists(column: pa.ListArray) -> Codes:
    """The same as value by value, for lists of distinct texts: each distinct text is coded once."""
    parents = np.asarray(pc.list_parent_indices(column), dtype=np.int64)
    encoded = pc.list_flatten(column).dictionary_encode()
    of_texts = np.array([_code(text) for text in encoded.dictionary.to_pylist()], dtype=np.int32)
    counts = np.bincount(parents, minlength=len(column))
    place = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((len(column), min(int(counts.max(initial=0)), MAX_VALUES) or 1), -1, dtype=np.int32)
    kept = place < MAX_VALUES
    out[parents[kept], place[kept]] = of_texts[np.asarray(encoded.indices)[kept]]
    return out


def _value_of(column: str, fields: Mapping[str, Any]) -> Any:
    if column == TAGS:
        return tags_of(fields.get(TAGS), _attribute(TAGS, fields))
    return _attribute(column.removeprefix(ATTRIBUTES), fields) if column.startswith(ATTRIBUTES) else fields.get(column)


def _attribute(name: str, fields: Mapping[str, Any]) -> Any:
    attributes = fields.get("attributes")
    if isinstance(attributes, str):
        attributes = msgspec.json.decode(attributes)
    return attributes.get(name) if isinstance(attributes, Mapping) else None


def _codes(value: Any) -> list[int]:
    """Of a value, or of each entry of a list, each once."""
    if value is None:
        return []
    entries = value if isinstance(value, list | tuple) else [value]
    return list(dict.fromkeys(_code(entry) for entry in entries if entry is not None))


def _code(value: Any) -> int:
    """31 bits of a checksum: of the values of one slate's candidates two are the same by chance hardly ever."""
    text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else msgspec.json.encode(value)
    return zlib.crc32(text) & 0x7FFF_FFFF
