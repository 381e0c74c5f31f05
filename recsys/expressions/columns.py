"""The items of a release as typed columns: each made when first asked for, once, and kept as long as the release."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from threading import RLock
from typing import Any

import msgspec
import pyarrow as pa

from recsys.expressions.attributes import known_paths, read_values, value_at
from recsys.expressions.building import (
    flags_column,
    lists_column,
    numbers_column,
    texts_column,
    times_column,
    values_column,
)
from recsys.expressions.recent import RecentlyUsed
from recsys.expressions.syntax import ATTRIBUTES, COLUMNS, Kind, Path
from recsys.expressions.values import TypedColumn
from recsys.ports import AllowedRows
from recsys.tags import by_casefold, covered_by, joined_tags, looks_at, tags_of

MASKS_BYTES = 32 * 2**20
"""What the masks of one release, or of one snapshot of the catalogue, may take together."""

MASK_BYTES_A_ROW = 6
"""A mask, its bits, and the rows of one that lets half of the items pass."""

TAGS = ("tags",)
UNSURE = ("tags_unsure",)
TAG_ATTRIBUTE = (ATTRIBUTES, "tags")

_BUILDERS: Mapping[Kind, Callable[[pa.ChunkedArray], TypedColumn]] = {
    "text": texts_column,
    "number": numbers_column,
    "time": times_column,
    "flag": flags_column,
    "list": lists_column,
}


NO_HEADS: Mapping[str, Sequence[str]] = {}


def masks_kept(n_rows: int) -> int:
    """How many masks over so many rows fit into `MASKS_BYTES`."""
    return max(4, min(512, MASKS_BYTES // (MASK_BYTES_A_ROW * max(n_rows, 1))))


class ItemColumns:
    """Columns over an Arrow table of items (`recsys.catalog.ITEMS_SCHEMA`, and perhaps `recsys.tags.TAG_COLUMNS`).

    Attributes:
        heads: head → the tags that it can give; empty where nothing was ever tagged.
        reads: head → the kinds of content that it judges by; where it is not named, `recsys.tags.looks_at`.
        masks: which rows of this table pass, by the canonical text of the expression.
    """

    def __init__(
        self,
        items: pa.Table,
        heads: Mapping[str, Sequence[str]] = NO_HEADS,
        reads: Mapping[str, Sequence[str]] = NO_HEADS,
    ) -> None:
        self.items = items
        self.heads = heads
        self.reads = reads
        self.masks: RecentlyUsed[AllowedRows] = RecentlyUsed(masks_kept(len(items)))
        self._made: dict[Path, TypedColumn] = {}
        self._lock = RLock()

    @property
    def n_rows(self) -> int:
        return len(self.items)

    @property
    def has_tags(self) -> bool:
        """Whether the items have a field `tags` of their own."""
        return "tags" in self.items.column_names

    @property
    def is_tagged(self) -> bool:
        """Whether models or people said anything of the items."""
        return "tags_said" in self.items.column_names

    def column(self, path: Path) -> TypedColumn:
        """The column under a path; an empty one where no item has anything there."""
        made = self._made.get(path)
        if made is not None:
            return made
        with self._lock:
            made = self._made.get(path)
            if made is None:
                made = self._make(path)
                # Names that a client makes up take no room.
                if path[0] != ATTRIBUTES or self.knows(path):
                    self._made[path] = made
            return made

    def knows(self, path: Path) -> bool:
        """Whether some item has this; True where there are too many attributes to keep all their names."""
        paths, are_all = self.attribute_paths
        return path[0] != ATTRIBUTES or path in paths or not are_all

    @cached_property
    def attribute_paths(self) -> tuple[frozenset[Path], bool]:
        """See `known_paths`. Takes some 2 µs an item, once."""
        return known_paths(self.items[ATTRIBUTES])

    def attribute(self, row: int, path: Path) -> Any:
        """One value under `attributes`, straight from its JSON."""
        text = self.items[ATTRIBUTES][row].as_py()
        try:
            return None if text is None else value_at(msgspec.json.decode(text), path)
        except msgspec.DecodeError:
            return None

    @cached_property
    def tag_ids(self) -> Mapping[str, str]:
        """The tags that heads can give, by their names in one case."""
        return by_casefold(sorted(covered_by(self.heads)))

    def listed(self, column: str, row: int) -> list[str] | None:
        """One of `TAG_COLUMNS` of one row; None where it has none."""
        there: list[str] | None = self.items[column][row].as_py() if column in self.items.column_names else None
        return there

    def upserted_tags(self, row: int, fields: Mapping[str, Any]) -> list[Any] | None:
        """The tags of an item of which `fields` were upserted; `row` may be of one that came after the release.

        Where the catalogue is tagged, what models and people say of a row outlives other `attributes.tags`.
        """
        is_new = row >= self.n_rows
        if ATTRIBUTES in fields or is_new:
            attribute = value_at(fields.get(ATTRIBUTES), TAG_ATTRIBUTE[1:])
        else:
            attribute = self.attribute(row, TAG_ATTRIBUTE[1:])
        if not self.is_tagged:
            says_so = is_new or "tags" in fields
            return tags_of(fields.get("tags") if says_so else self.listed("tags", row), attribute)
        said = () if is_new else self.listed("tags_said", row) or ()
        denied = () if is_new else self.listed("tags_denied", row) or ()
        return joined_tags(attribute, said, denied, self.tag_ids)

    def unsure_tags(self, row: int, contents: Collection[str]) -> list[str]:
        """Tags of which nobody can tell, where these kinds of an item's content are others than the release's: all
        that heads which look at them can give."""
        reads = {head: self.reads.get(head) or looks_at(head) for head in self.heads}
        open_now = [
            tag for head, tags in self.heads.items() if not set(contents).isdisjoint(reads[head]) for tag in tags
        ]
        before = () if row >= self.n_rows else self.listed("tags_unsure", row) or ()
        return list(dict.fromkeys([*before, *open_now]))

    def _make(self, path: Path) -> TypedColumn:
        if path == TAGS:
            return self._tags_column()
        if path == UNSURE:
            there = UNSURE[0] in self.items.column_names
            return lists_column(self.items[UNSURE[0]]) if there else TypedColumn(self.n_rows)
        if path[0] != ATTRIBUTES:
            return _BUILDERS[COLUMNS[path[0]]](self.items[path[0]])
        if not self.knows(path):
            return TypedColumn(self.n_rows)
        return values_column(read_values(self.items[ATTRIBUTES], path[1:]))

    def _tags_column(self) -> TypedColumn:
        """The field `tags`, and for rows that have none, `attributes.tags` where that is a list."""
        if not self.has_tags:
            return TypedColumn(self.n_rows, lists=self.column(TAG_ATTRIBUTE).lists)
        field = self.items["tags"]
        if not field.null_count or not self.knows(TAG_ATTRIBUTE):
            return lists_column(field)
        attributes = read_values(self.items[ATTRIBUTES], TAG_ATTRIBUTE[1:])
        of_rows = zip(field.to_pylist(), attributes, strict=True)
        return values_column([tags_of(tags, attribute) for tags, attribute in of_rows])
