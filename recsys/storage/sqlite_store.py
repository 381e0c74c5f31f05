"""`sqlite:///path`: the embedded default, one file in WAL mode for the threads and processes of one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar

import msgspec

from recsys.events import EPOCH, EventStatus, Exposure, Interaction
from recsys.ports import LiveItem, UserState
from recsys.storage.packed import history_item, merge_history, pack_state, unpack_state, with_blocked
from recsys.storage.records import (
    cursor_of,
    json_bytes,
    pack_exposure,
    pack_item,
    position_in,
    unpack_exposure,
    unpack_item,
)
from recsys.storage.sqlite_connections import SqliteConnections
from recsys.types import HistoryItem

_IMPORT_USERS = 500  # users a transaction; keeps other writers' waits short
_READ_ROWS = 1000
_MICROSECOND = timedelta(microseconds=1)
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
_ITEMS_VERSION = "select value from meta where name = 'items_version'"


class SqliteStore:
    """Implements `recsys.ports.Store`; safe from several threads and processes.

    An acknowledged event survives kill -9 and a power cut. Exposures, written with every answer, spare the fsync: a
    power cut may take the last of them.
    """

    def __init__(self, path: Path) -> None:
        """Raises StoreUnavailable when the file cannot be used."""
        self._connections = SqliteConnections(path)

    def user_state(self, user_id: str) -> UserState:
        with self._connections.read() as connection:
            return _state(connection, user_id)

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        n_users = 0
        remaining = iter(histories)
        while chunk := list(islice(remaining, _IMPORT_USERS)):
            with self._connections.transaction() as connection:
                for user_id, items in chunk:
                    _change_state(connection, user_id, partial(merge_history, arrivals=items, imported=True))
            n_users += len(chunk)
        return n_users

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        with self._connections.transaction() as connection:
            _change_state(connection, user_id, partial(with_blocked, item_ids=item_ids))

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

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        rows = [_row(event) for event in interactions]
        if not rows:
            return []
        statuses: list[EventStatus] = []
        arrivals: dict[str, list[HistoryItem]] = {}
        with self._connections.transaction() as connection:
            for event, row in zip(interactions, rows, strict=True):
                accepted = connection.execute(_APPEND, row).rowcount == 1
                statuses.append("accepted" if accepted else "duplicate")
                if accepted:
                    arrivals.setdefault(event.user_id, []).append(history_item(event))
            for user_id, items in arrivals.items():
                _change_state(connection, user_id, partial(merge_history, arrivals=items))
        return statuses

    def append_exposure(self, exposure: Exposure) -> None:
        with self._connections.transaction(durable=False) as connection:
            connection.execute("insert into exposures (record) values (?)", (pack_exposure(exposure),))

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


def _row(event: Interaction) -> tuple[Any, ...]:
    return (
        event.event_id,
        event.user_id,
        event.item_id,
        (event.occurred_at - EPOCH) // _MICROSECOND,
        event.event_type,
        event.value,
        event.recommendation_id,
        event.position,
        json_bytes(event.context).decode(),
    )


def _interaction(row: Sequence[Any]) -> Interaction:
    event_id, user_id, item_id, occurred_at_us, event_type, value, recommendation_id, position, context = row
    occurred_at = EPOCH + timedelta(microseconds=occurred_at_us)
    known: dict[str, Any] = msgspec.json.decode(context)
    return Interaction(event_id, user_id, item_id, occurred_at, event_type, value, recommendation_id, position, known)
