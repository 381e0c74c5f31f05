"""`sqlite:///path`: the embedded default, one file in WAL mode for the threads and processes of one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from recsys.events import (
    EPOCH,
    ErasureReceipt,
    EventStatus,
    Exposure,
    Interaction,
    SpoolRange,
    StoredExposures,
    UserMerge,
    micros_of,
)
from recsys.ports import LiveItem, UserState
from recsys.storage import trending
from recsys.storage.packed import (
    MAX_SERVED_BYTES,
    PackedUserState,
    hashes_of,
    history_item,
    merge_history,
    pack_state,
    unpack_state,
    with_blocked,
    with_merged,
    with_served,
    without_blocked,
)
from recsys.storage.records import (
    cursor_of,
    deleted_items,
    json_bytes,
    pack_exposure,
    pack_item,
    position_in,
    unpack_exposure,
    unpack_item,
)
from recsys.storage.sqlite_connections import SqliteConnections
from recsys.storage.sqlite_erasure import erase_user, erased_until_us
from recsys.types import HistoryItem

_IMPORT_USERS = 500  # users a transaction; keeps other writers' waits short
_READ_ROWS = 1000
_Record = TypeVar("_Record")

_APPEND = """insert into events
    (event_id, user_id, item_id, occurred_at_us, event_type, value, recommendation_id, position, context)
    values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (event_id) do nothing"""
_READ_EVENTS = """select seq, event_id, user_id, item_id, occurred_at_us, event_type, value, recommendation_id,
    position, context from events where seq > ? order by seq limit ?"""
_READ_EXPOSURES = "select seq, record from exposures where seq > ? order by seq limit ?"
_READ_ITEMS = "select record, version from live_items where version > ? order by version"
_STATE = "select state from user_states where user_id = ?"
_SET_STATE = "insert into user_states values (?, ?) on conflict (user_id) do update set state = excluded.state"
_SET_ITEM = """insert into live_items values (?, ?, ?)
    on conflict (item_id) do update set version = excluded.version, record = excluded.record"""
_STATE_AND_SERVED = """select (select state from user_states where user_id = ?1),
    (select marks from served where user_id = ?1 and until_ms > ?2)"""
_SERVED = "select marks, until_ms from served where user_id = ? and until_ms > ?"
_SET_SERVED = """insert into served values (?, ?, ?)
    on conflict (user_id) do update set marks = excluded.marks, until_ms = excluded.until_ms"""
_SET_DRAINED = "insert into drained values (?, ?) on conflict (spool_id) do update set until = excluded.until"
_READ_MERGES = "select seq, source_user_id, target_user_id, merged_at_us from merges where seq > ? order by seq limit ?"
_COUNT = """insert into taken values (?, ?, ?)
    on conflict (bucket, item_id) do update set count = count + excluded.count"""
_TRIM = """delete from taken where bucket = ?1 and item_id not in (
    select item_id from taken where bucket = ?1 order by count desc limit ?2)"""
_MOST_TAKEN = "select item_id, count from taken where bucket = ? order by count desc limit ?"
_ITEMS_VERSION = "select value from meta where name = 'items_version'"


class SqliteStore:
    """Implements `recsys.ports.Store`; safe from several threads and processes.

    An acknowledged event survives kill -9 and a power cut. Exposures, written with every answer, spare the fsync: a
    power cut may take the last of them.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises StoreUnavailable when the file cannot be used."""
        self._connections = SqliteConnections(path)
        self._clock = clock

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        with self._connections.read() as connection:
            if not with_served:
                return _state(connection, user_id)
            row = connection.execute(_STATE_AND_SERVED, (user_id, self._now_ms())).fetchone()
        return PackedUserState(*row).unpack()

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        n_users = 0
        remaining = iter(histories)
        while chunk := list(islice(remaining, _IMPORT_USERS)):
            with self._connections.transaction() as connection:
                for user_id, items in chunk:
                    until_us = erased_until_us(connection, user_id)
                    kept = [item for item in items if until_us < 0 or item.occurred_at_ms * 1000 > until_us]
                    _change_state(connection, user_id, partial(merge_history, arrivals=kept, imported=True))
            n_users += len(chunk)
        return n_users

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        with self._connections.transaction() as connection:
            _change_state(connection, user_id, partial(with_blocked, item_ids=item_ids))

    def unblock(self, user_id: str, item_ids: Sequence[str]) -> None:
        with self._connections.transaction() as connection:
            _change_state(connection, user_id, partial(without_blocked, item_ids=item_ids))

    def note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        with self._connections.transaction(durable=False) as connection:
            if at_ms * 1000 > erased_until_us(connection, user_id):
                self._note_served(connection, user_id, item_hashes, at_ms, keep_s)

    def _note_served(
        self, connection: Connection, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float
    ) -> None:
        now_ms = self._now_ms()
        row = connection.execute(_SERVED, (user_id, now_ms)).fetchone()
        marks = with_served(row[0] if row else b"", item_hashes, at_ms)
        connection.execute(_SET_SERVED, (user_id, marks, now_ms + round(keep_s * 1000)))
        connection.execute("delete from served where until_ms <= ?", (now_ms,))

    def merge_users(self, source_user_id: str, target_user_id: str, *, now: datetime) -> UserState:
        with self._connections.transaction() as connection:
            if source_user_id == target_user_id:
                return _state(connection, target_user_id)
            source = _state(connection, source_user_id)
            _change_state(connection, target_user_id, partial(with_merged, source=source))
            connection.execute("delete from user_states where user_id = ?", (source_user_id,))
            self._join_served(connection, source_user_id, target_user_id)
            known = "select 1 from merges where source_user_id = ? and target_user_id = ?"
            pair = (source_user_id, target_user_id)
            if source.version or connection.execute(known, pair).fetchone() is None:
                connection.execute("insert into merges values (null, ?, ?, ?)", (*pair, micros_of(now)))
            return _state(connection, target_user_id)

    def _join_served(self, connection: Connection, source_user_id: str, target_user_id: str) -> None:
        now_ms = self._now_ms()
        found = [connection.execute(_SERVED, (user, now_ms)).fetchone() for user in (source_user_id, target_user_id)]
        if found[0] is not None:
            rows = [row for row in found if row is not None]
            marks = b"".join(row[0] for row in rows)[-MAX_SERVED_BYTES:]
            connection.execute(_SET_SERVED, (target_user_id, marks, max(row[1] for row in rows)))
        connection.execute("delete from served where user_id = ?", (source_user_id,))

    def merges(self) -> Iterator[UserMerge]:
        pages = self._pages(_READ_MERGES, 0, lambda row: UserMerge(row[1], row[2], _time(row[3])))
        return (merge for _, merge in pages)

    def erase_user(self, user_id: str, *, now: datetime) -> ErasureReceipt:
        return erase_user(self._connections, user_id, now)

    def delete_items(self, item_ids: Sequence[str]) -> int:
        return self.upsert_items(deleted_items(item_ids))

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        records = [(item.item_id, pack_item(item)) for item in items]
        with self._connections.transaction() as connection:
            version = int(connection.execute(_ITEMS_VERSION).fetchone()[0])
            rows = [(item_id, version + place, record) for place, (item_id, record) in enumerate(records, start=1)]
            connection.executemany(_SET_ITEM, rows)
            version += len(rows)
            connection.execute("update meta set value = ? where name = 'items_version'", (version,))
        return version

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        with self._connections.transaction("deferred") as connection:  # version and items of one moment
            now = int(connection.execute(_ITEMS_VERSION).fetchone()[0])
            since = version if version <= now else 0
            rows = connection.execute(_READ_ITEMS, (since,)).fetchall()
        return now, tuple(unpack_item(record, written_at) for record, written_at in rows)

    def trending(self, now_ms: int, half_life_s: float, k: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        with self._connections.transaction("deferred") as connection:
            counts = {
                bucket: connection.execute(_MOST_TAKEN, (bucket, trending.depth_for(k))).fetchall()
                for bucket in trending.buckets_to_read(now_ms, half_life_s)
            }
        return trending.most_taken(counts, now_ms, half_life_s, k)

    def _count(self, connection: Connection, events: Iterable[Interaction]) -> None:
        now_s = self._clock()
        oldest = trending.bucket_of(int(now_s * 1000)) - trending.N_BUCKETS
        for bucket, counts in trending.counted(events, now_s).items():
            is_new = connection.execute("select 1 from taken where bucket = ? limit 1", (bucket,)).fetchone() is None
            connection.executemany(_COUNT, [(bucket, item_id, count) for item_id, count in counts.items()])
            if is_new:  # the one before it has ended
                connection.execute(_TRIM, (bucket - 1, trending.KEPT_ITEMS))
                connection.execute("delete from taken where bucket <= ?", (oldest,))

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        rows = [_row(event) for event in interactions]
        if not rows:
            return []
        with self._connections.transaction() as connection:
            users = {event.user_id for event in interactions}
            until_us = {user_id: erased_until_us(connection, user_id) for user_id in users}
            statuses: list[EventStatus] = []
            for event, row in zip(interactions, rows, strict=True):
                statuses.append(
                    _append(connection, row, is_erased=micros_of(event.occurred_at) <= until_us[event.user_id])
                )
            accepted = [e for e, status in zip(interactions, statuses, strict=True) if status == "accepted"]
            arrivals: dict[str, list[HistoryItem]] = {}
            for event in accepted:
                arrivals.setdefault(event.user_id, []).append(history_item(event))
            for user_id, items in arrivals.items():
                _change_state(connection, user_id, partial(merge_history, arrivals=items))
            self._count(connection, accepted)
        return statuses

    def append_exposure(self, exposure: Exposure) -> None:
        self.append_exposures([exposure])

    def append_exposures(
        self, exposures: Sequence[Exposure], spooled: SpoolRange | None = None, *, served_keep_s: float = 0.0
    ) -> StoredExposures:
        records = [pack_exposure(exposure) for exposure in exposures]
        with self._connections.transaction(durable=False) as connection:
            if spooled is not None:
                row = connection.execute("select until from drained where spool_id = ?", (spooled.spool_id,)).fetchone()
                if row is not None and row[0] > spooled.start:
                    return StoredExposures(row[0], 0, 0)
                connection.execute(_SET_DRAINED, (spooled.spool_id, spooled.end))
            n_dropped = 0
            for exposure, record in zip(exposures, records, strict=True):
                user_id, at_us = exposure.user_id, micros_of(exposure.occurred_at)
                if user_id is not None and at_us <= erased_until_us(connection, user_id):
                    n_dropped += 1
                    continue
                connection.execute("insert into exposures (record) values (?)", (record,))
                if user_id is not None and served_keep_s:
                    hashes = hashes_of(exposure.item_ids)
                    self._note_served(connection, user_id, hashes, at_us // 1000, served_keep_s)
        return StoredExposures(spooled.end if spooled else 0, len(exposures) - n_dropped, n_dropped)

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._pages(_READ_EVENTS, self._start(after), lambda row: _interaction(row[1:]))

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._pages(_READ_EXPOSURES, self._start(after), lambda row: unpack_exposure(row[1]))

    def _start(self, after: str) -> int:
        return int(position_in(after, self._connections.log_id, "0"))

    def _pages(
        self, query: str, start: int, record_of: Callable[[tuple[Any, ...]], _Record]
    ) -> Iterator[tuple[str, _Record]]:
        """Page after page, so that no long read keeps the write-ahead log from being folded back."""
        while True:
            with self._connections.read() as connection:
                page = connection.execute(query, (start, _READ_ROWS)).fetchall()
            for row in page:
                yield cursor_of(self._connections.log_id, row[0]), record_of(row)
            if len(page) < _READ_ROWS:
                return
            start = page[-1][0]

    def ping(self) -> None:
        with self._connections.read() as connection:
            connection.execute(_ITEMS_VERSION).fetchone()

    def close(self) -> None:
        self._connections.close()


def _state(connection: Connection, user_id: str) -> UserState:
    row = connection.execute(_STATE, (user_id,)).fetchone()
    return unpack_state(row[0] if row else None)


def _change_state(connection: Connection, user_id: str, change: Callable[[UserState], UserState]) -> None:
    before = _state(connection, user_id)
    after = change(before)
    if after is not before:
        connection.execute(_SET_STATE, (user_id, pack_state(after)))


def _append(connection: Connection, row: tuple[Any, ...], *, is_erased: bool) -> EventStatus:
    if is_erased:
        known = connection.execute("select 1 from events where event_id = ?", row[:1]).fetchone()
        return "rejected" if known is None else "duplicate"
    return "accepted" if connection.execute(_APPEND, row).rowcount == 1 else "duplicate"


def _time(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)


def _row(event: Interaction) -> tuple[Any, ...]:
    return (
        event.event_id,
        event.user_id,
        event.item_id,
        micros_of(event.occurred_at),
        event.event_type,
        event.value,
        event.recommendation_id,
        event.position,
        json_bytes(event.context).decode(),
    )


def _interaction(row: Sequence[Any]) -> Interaction:
    event_id, user_id, item_id, occurred_at_us, event_type, value, recommendation_id, position, context = row
    occurred_at = _time(occurred_at_us)
    known: dict[str, Any] = msgspec.json.decode(context)
    return Interaction(event_id, user_id, item_id, occurred_at, event_type, value, recommendation_id, position, known)
