"""Who is hidden, and from when until when the others are shown.

Letters: N items of the release, M that came after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.ports import LiveItem
from recsys.quarantine import RowRefused
from recsys.release import LoadedRelease
from recsys.times import parse_time_ms

ALWAYS_MS = int(np.iinfo(np.int64).min)
NEVER_MS = int(np.iinfo(np.int64).max)

Mask = NDArray[np.bool_]
Times = NDArray[np.int64]
A = TypeVar("A", np.bool_, np.int64)


@dataclass(frozen=True, slots=True)
class Availability:
    """Of all N + M rows. Arrays are shared by all snapshots in which they are equal.

    Attributes:
        hidden: bool, hidden or deleted, or upserted with times that cannot be read.
        from_ms, until_ms: int64 UTC milliseconds, with ALWAYS_MS and NEVER_MS for "no bound".
        some_start, some_end: whether any item becomes, or stops being, available only at some time.
        released: the release's own, before anything was upserted; None where this is it.
    """

    hidden: Mask
    from_ms: Times
    until_ms: Times
    some_start: bool
    some_end: bool
    released: Availability | None = None

    @staticmethod
    def of(release: LoadedRelease) -> Availability:
        hidden = np.asarray(pc.fill_null(release.items["hidden"], False), dtype=np.bool_)
        from_ms = _times(release, "available_from", ALWAYS_MS)
        until_ms = _times(release, "available_until", NEVER_MS)
        return Availability(hidden, from_ms, until_ms, *_some_bound(from_ms, until_ms))

    def with_changes(self, changes: Iterable[tuple[int, LiveItem]], n_rows: int) -> Availability:
        """With these items (row, item) as they were last upserted; itself where that changes nothing.

        `n_rows` = N + M after it; each row that is not here yet must be among the changes.
        """
        released = self.released or self
        told = [(row, *_told(row, item, released)) for row, item in changes]
        if not told:
            return self
        rows = np.array([each[0] for each in told], dtype=np.int64)
        hidden = _changed(self.hidden, rows, np.array([each[1] for each in told], np.bool_), n_rows)
        from_ms = _changed(self.from_ms, rows, np.array([each[2] for each in told], np.int64), n_rows)
        until_ms = _changed(self.until_ms, rows, np.array([each[3] for each in told], np.int64), n_rows)
        if hidden is self.hidden and from_ms is self.from_ms and until_ms is self.until_ms:
            return self
        bounds_stay = from_ms is self.from_ms and until_ms is self.until_ms
        bounds = (self.some_start, self.some_end) if bounds_stay else _some_bound(from_ms, until_ms)
        return Availability(hidden, from_ms, until_ms, *bounds, released)


def _told(row: int, item: LiveItem, released: Availability) -> tuple[bool, int, int]:
    """hidden, from and until of one item: what was upserted, else what the release says."""
    hidden, from_ms, until_ms = False, ALWAYS_MS, NEVER_MS
    if row < len(released.hidden):
        hidden = bool(released.hidden[row])
        from_ms, until_ms = int(released.from_ms[row]), int(released.until_ms[row])
    hidden = item.deleted or bool(item.fields.get("hidden", hidden))
    try:
        if "available_from" in item.fields:
            from_ms = _time_ms(item, "available_from", ALWAYS_MS)
        if "available_until" in item.fields:
            until_ms = _time_ms(item, "available_until", NEVER_MS)
    except RowRefused:
        hidden = True
    return hidden, from_ms, until_ms


def _changed(values: NDArray[A], rows: Times, new: NDArray[A], n_rows: int) -> NDArray[A]:
    """`values` with `new` at `rows`, `n_rows` long: the same array where that is what it holds."""
    if n_rows == len(values) and np.array_equal(values[rows], new):
        return values
    out = np.empty(n_rows, dtype=values.dtype)
    out[: len(values)] = values
    out[rows] = new
    return out


def _some_bound(from_ms: Times, until_ms: Times) -> tuple[bool, bool]:
    return bool((from_ms != ALWAYS_MS).any()), bool((until_ms != NEVER_MS).any())


def _times(release: LoadedRelease, name: str, when_absent: int) -> Times:
    column = pc.cast(pc.cast(release.items[name], pa.timestamp("ms", "UTC")), pa.int64())
    return np.asarray(pc.fill_null(column, when_absent), dtype=np.int64)


def _time_ms(item: LiveItem, name: str, when_absent: int) -> int:
    milliseconds = parse_time_ms(item.fields.get(name), name)
    return when_absent if milliseconds is None else milliseconds
