"""What was upserted since a release, as typed columns over the few rows it changed.

An upsert replaces fields of an item, `attributes` as a whole: a changed row keeps what the release says of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.expressions.attributes import paths_of, value_at
from recsys.expressions.building import values_column
from recsys.expressions.columns import TAG_ATTRIBUTE, TAGS, ItemColumns, masks_kept, tags_of
from recsys.expressions.recent import RecentlyUsed
from recsys.expressions.syntax import ATTRIBUTES, COLUMNS, Kind, Path
from recsys.expressions.values import TypedColumn
from recsys.ports import AllowedRows
from recsys.quarantine import RowRefused
from recsys.times import parse_time_ms

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row of a snapshot whose item was upserted: `fields` as in `recsys.ports.LiveItem`."""

    row: int
    item_id: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Replaced:
    """One column over the R changed rows: which of them take it from the upsert, bool [R], and what stands there."""

    is_replaced: Mask
    column: TypedColumn


class Overlay:
    """Rows 0..N-1 of a release and N..N+M-1 that came after it, with the upserts over them. Never changes.

    Attributes:
        rows: int64 [R], the changed rows, ascending; all rows from N on are among them.
        masks: which of the N + M rows pass, by the canonical text of the expression.
    """

    def __init__(self, columns: ItemColumns, changed: Iterable[ChangedRow], n_rows: int) -> None:
        """`changed` must hold each row from N to `n_rows` - 1, and none twice."""
        self.columns = columns
        self.n_rows = n_rows
        self.masks: RecentlyUsed[AllowedRows] = RecentlyUsed(masks_kept(n_rows))
        self._changed = sorted(changed, key=lambda each: each.row)
        self.rows: Rows = np.array([each.row for each in self._changed], dtype=np.int64)
        self._made: dict[Path, Replaced] = {}
        self._lock = RLock()

    def replaced(self, path: Path) -> Replaced:
        """One column of the changed rows, made when first asked for."""
        made = self._made.get(path)
        if made is not None:
            return made
        with self._lock:
            made = self._made.get(path)
            if made is None:
                made = self._make(path)
                if self.knows(path):
                    self._made[path] = made
            return made

    def knows(self, path: Path) -> bool:
        """Whether some item, of the release or upserted, has this column."""
        return self.columns.knows(path) or path in self.attribute_paths

    @cached_property
    def attribute_paths(self) -> frozenset[Path]:
        """The attributes of upserted items."""
        objects = (each.fields.get(ATTRIBUTES) for each in self._changed)
        return frozenset(
            (ATTRIBUTES, *path) for value in objects if isinstance(value, Mapping) for path in paths_of(value)
        )

    def _make(self, path: Path) -> Replaced:
        fields = {"tags", ATTRIBUTES} if path == TAGS else {path[0]}
        n = self.columns.n_rows
        is_replaced = np.array([each.row >= n or bool(fields & each.fields.keys()) for each in self._changed], np.bool_)
        values = [
            self._value(each, path) if replaces else None
            for each, replaces in zip(self._changed, is_replaced.tolist(), strict=True)
        ]
        return Replaced(is_replaced, values_column(values))

    def _value(self, changed: ChangedRow, path: Path) -> Any:
        """What an upserted field says, as a value of the column's type; None for what is none."""
        if path == TAGS:
            return self._tags(changed)
        if path == ("item_id",):
            return changed.item_id
        value = changed.fields.get(path[0])
        return value_at(value, path[1:]) if path[0] == ATTRIBUTES else _typed(value, COLUMNS[path[0]])

    def _tags(self, changed: ChangedRow) -> list[Any] | None:
        is_new = changed.row >= self.columns.n_rows
        if ATTRIBUTES in changed.fields or is_new:
            attribute = value_at(changed.fields.get(ATTRIBUTES), TAG_ATTRIBUTE[1:])
        else:
            attribute = self.columns.attribute(changed.row, TAG_ATTRIBUTE[1:])
        says_so = is_new or "tags" in changed.fields
        return tags_of(changed.fields.get("tags") if says_so else self.columns.tags(changed.row), attribute)


def _typed(value: Any, kind: Kind) -> Any:
    match kind:
        case "text":
            return value if isinstance(value, str) else None
        case "number":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "flag":
            return bool(value)
        case "time":
            return _time_ms(value)
        case _:
            return _texts(value) if isinstance(value, list | tuple) else None


def _texts(values: Sequence[Any]) -> list[str]:
    return [each for each in values if isinstance(each, str)]


def _time_ms(value: Any) -> int | None:
    try:
        return parse_time_ms(value, "time")
    except RowRefused:
        return None
