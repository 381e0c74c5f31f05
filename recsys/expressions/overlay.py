"""What was upserted since a release, as typed columns over the rows it changed.

An upsert replaces fields of an item, `attributes` as a whole: a changed row keeps what the release says of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.expressions.attributes import paths_of, value_at
from recsys.expressions.building import values_column
from recsys.expressions.columns import TAGS, UNSURE, ItemColumns, masks_kept
from recsys.expressions.recent import RecentlyUsed
from recsys.expressions.syntax import ATTRIBUTES, COLUMNS, Kind, Path
from recsys.expressions.values import TypedColumn
from recsys.ports import AllowedRows
from recsys.quarantine import RowRefused
from recsys.times import parse_time_ms

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
RATIO = 4
"""A layer of changes that is no larger than so many times the changes above it is made one with them."""


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row of a snapshot whose item was upserted.

    Attributes:
        fields: as in `recsys.ports.LiveItem`.
        unjudged: kinds of its content that are others than the release's, so that no head has looked at them.
    """

    row: int
    item_id: str
    fields: Mapping[str, Any]
    unjudged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replaced:
    """One column over the R changed rows: which of them take it from the upsert, bool [R], and what stands there."""

    is_replaced: Mask
    column: TypedColumn


@dataclass(frozen=True, slots=True)
class FoundIn:
    """Which of C rows one layer changed, bool [C], and their places among its own int64 [C] (0 where it did not)."""

    layer: Overlay
    at: Rows
    is_there: Mask


class Overlay:
    """Rows 0..N-1 of a release and N..N+M-1 that came after it, with the upserts over them. Never changes.

    It lies in layers, the latest changes on top; a layer is more than `RATIO` times as large as the one above it, so
    there are few, and each change is moved to a larger one only now and then. What a row has in one layer covers all
    that it had in those below.

    Attributes:
        below: the layer under this one; None = the release itself.
        rows: int64 [R], the rows that this layer changed, ascending.
        masks: which of the N + M rows pass, by the canonical text of the expression.
        before: what was kept of the snapshot that this one was made from, and the rows int64 that changed since then.
    """

    def __init__(
        self,
        columns: ItemColumns,
        changed: Iterable[ChangedRow],
        n_rows: int,
        below: Overlay | None = None,
        before: tuple[RecentlyUsed[AllowedRows], Rows] | None = None,
    ) -> None:
        """`changed` must hold each row that is not below, and none twice."""
        self.columns = columns
        self.n_rows = n_rows
        self.below = below
        self.before = before
        self.masks: RecentlyUsed[AllowedRows] = RecentlyUsed(masks_kept(n_rows))
        self._changed = sorted(changed, key=lambda each: each.row)
        self.rows: Rows = np.array([each.row for each in self._changed], dtype=np.int64)
        self._made: dict[Path, Replaced] = {}
        self._lock = RLock()

    def with_changes(self, changed: Iterable[ChangedRow], n_rows: int) -> Overlay:
        """These changes over the others. Columns that were made are made of it too, here and not in a request."""
        mine = {each.row: each for each in changed}
        before = self.masks if len(self.rows) else self.columns.masks, np.array(sorted(mine), dtype=np.int64)
        below: Overlay | None = self
        while below is not None and len(below.rows) <= RATIO * len(mine):
            mine = {**{each.row: each for each in below._changed}, **mine}
            below = below.below
        overlay = Overlay(self.columns, mine.values(), n_rows, below, before)
        for path in {path for layer in self.layers() for path in layer._made}:
            overlay.replaced(path)
        _ = overlay.own_paths
        return overlay

    def layers(self) -> Iterator[Overlay]:
        """From the latest changes on."""
        layer: Overlay | None = self
        while layer is not None:
            yield layer
            layer = layer.below

    def found(self, rows: Rows) -> list[FoundIn]:
        """Where rows int64 [C] were changed last, each in one layer at most; layers without any are left out."""
        parts, is_open = [], np.ones(len(rows), dtype=np.bool_)
        for layer in self.layers():
            if len(layer.rows):
                at = np.searchsorted(layer.rows, rows)
                at[at == len(layer.rows)] = 0
                is_there = (layer.rows[at] == rows) & is_open
                if is_there.any():
                    parts.append(FoundIn(layer, at, is_there))
                    is_open &= ~is_there
        return parts

    def replaced(self, path: Path) -> Replaced:
        """One column of this layer's rows, made when first asked for."""
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
        """Whether some item, of the release or upserted, has this column (or had it, and was upserted again)."""
        return self.columns.knows(path) or any(path in layer.own_paths for layer in self.layers())

    @cached_property
    def own_paths(self) -> frozenset[Path]:
        """The attributes of the items that this layer changed."""
        objects = (each.fields.get(ATTRIBUTES) for each in self._changed)
        return frozenset(
            (ATTRIBUTES, *path) for value in objects if isinstance(value, Mapping) for path in paths_of(value)
        )

    @property
    def attribute_paths(self) -> frozenset[Path]:
        """The attributes of upserted items."""
        return frozenset().union(*(layer.own_paths for layer in self.layers()))

    def _make(self, path: Path) -> Replaced:
        fields = {"tags", ATTRIBUTES} if path == TAGS else {path[0]}
        n = self.columns.n_rows
        is_replaced = np.array(
            [
                each.row >= n or bool(each.unjudged if path == UNSURE else fields & each.fields.keys())
                for each in self._changed
            ],
            np.bool_,
        )
        values = [
            self._value(each, path) if replaces else None
            for each, replaces in zip(self._changed, is_replaced.tolist(), strict=True)
        ]
        return Replaced(is_replaced, values_column(values))

    def _value(self, changed: ChangedRow, path: Path) -> Any:
        """What an upserted field says, as a value of the column's type; None for what is none."""
        if path == TAGS:
            return self.columns.upserted_tags(changed.row, changed.fields)
        if path == UNSURE:
            return self.columns.unsure_tags(changed.row, changed.unjudged)
        if path == ("item_id",):
            return changed.item_id
        value = changed.fields.get(path[0])
        return value_at(value, path[1:]) if path[0] == ATTRIBUTES else _typed(value, COLUMNS[path[0]])


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
