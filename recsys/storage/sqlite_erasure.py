"""Taking a user out of a SQLite store, down to the bytes of its file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from sqlite3 import Connection
from typing import TypeVar

from recsys.errors import StoreUnavailable
from recsys.events import ErasureReceipt, micros_of, user_hash
from recsys.storage.records import unpack_exposure
from recsys.storage.sqlite_connections import SqliteConnections

_ROWS = 500  # a transaction; keeps other writers' waits short
_IN_LOG = "the write-ahead log and free space of the file, since somebody reads it for long: until the next erasure"
_IN_FREE_SPACE = "free space of the file, which could not be written anew: until the next erasure"
_MERGED = """with recursive found (user_id) as (
    select ? union select source_user_id from merges join found on target_user_id = found.user_id)
    select user_id from found"""
_ERASE = """insert into erased values (?, ?)
    on conflict (user_hash) do update set until_us = max(until_us, excluded.until_us)"""
_EXPOSURES = "select seq, record from exposures where seq > ? and seq <= ? and instr(record, ?) order by seq limit ?"
_EVENTS = """select seq, occurred_at_us from events where seq > ? and seq <= ? and user_id = ?
    order by seq limit ?"""
_Row = TypeVar("_Row")


def erased_until_us(connection: Connection, user_id: str) -> int:
    """Until when what this user did was erased, µs; -1 = never."""
    row = connection.execute("select until_us from erased where user_hash = ?", (user_hash(user_id),)).fetchone()
    return int(row[0]) if row else -1


def erase_user(connections: SqliteConnections, user_id: str, now: datetime) -> ErasureReceipt:
    """See `FeatureStore.erase_user`. First the states, with the time of erasure, in one step; from then on nothing old
    comes in, so that the logs can be gone through in small transactions, up to where they ended then."""
    with connections.overwriting():
        users, counts = _erase_rows(connections, user_id, micros_of(now))
    return ErasureReceipt(user_hash(user_id), now, *counts, _remaining(connections, users))


def _erase_rows(
    connections: SqliteConnections, user_id: str, now_us: int
) -> tuple[list[str], tuple[int, int, int, int, int]]:
    """All who were erased, and the counts in the receipt's order."""
    with connections.transaction() as connection:
        users = [str(row[0]) for row in connection.execute(_MERGED, (user_id,)).fetchall()]
        _raise_erased_until(connection, users, now_us)
        n_states = _delete(connection, "user_states where user_id = ?", users)
        n_served = _delete(connection, "served where user_id = ?", users)
        n_merges = _delete(connection, "merges where source_user_id = ?1 or target_user_id = ?1", users)
        last_event, last_exposure = (
            int(connection.execute(f"select coalesce(max(seq), 0) from {table}").fetchone()[0])
            for table in ("events", "exposures")
        )
    n_events = sum(_erase_events(connections, users, user, last_event) for user in users)
    n_exposures = sum(_erase_exposures(connections, users, user, last_exposure) for user in users)
    return users, (n_states, n_served, n_events, n_exposures, n_merges)


def _erase_events(connections: SqliteConnections, users: Sequence[str], user_id: str, end: int) -> int:
    def page_after(seq: int) -> list[tuple[int, int]]:
        with connections.read() as connection:
            return connection.execute(_EVENTS, (seq, end, user_id, _ROWS)).fetchall()

    return _erase_pages(connections, users, "events", page_after)


def _erase_exposures(connections: SqliteConnections, users: Sequence[str], user_id: str, end: int) -> int:
    def page_after(seq: int) -> list[tuple[int, int]]:
        rows: list[tuple[int, int]] = []
        while len(rows) < _ROWS:
            with connections.read() as connection:
                found = connection.execute(_EXPOSURES, (seq, end, user_id.encode(), _ROWS)).fetchall()
            records = [(at, unpack_exposure(record)) for at, record in found]
            rows += [(at, micros_of(record.occurred_at)) for at, record in records if record.user_id == user_id]
            if len(found) < _ROWS:
                break
            seq = found[-1][0]
        return rows

    return _erase_pages(connections, users, "exposures", page_after)


def _erase_pages(
    connections: SqliteConnections,
    users: Sequence[str],
    table: str,
    page_after: Callable[[int], list[tuple[int, int]]],
) -> int:
    """Delete rows (seq, µs) page after page; the time of erasure is raised with each, so that none comes in again."""
    gone, seq = 0, 0
    while rows := page_after(seq):
        for part in _parts(rows):
            with connections.transaction() as connection:
                _raise_erased_until(connection, users, max(at_us for _, at_us in part))
                gone += _delete(connection, f"{table} where seq = ?", [at for at, _ in part])
        seq = rows[-1][0]
    return gone


def _parts(rows: Iterable[_Row]) -> Iterable[list[_Row]]:
    remaining = iter(rows)
    while part := list(islice(remaining, _ROWS)):
        yield part


def _raise_erased_until(connection: Connection, users: Sequence[str], until_us: int) -> None:
    connection.executemany(_ERASE, [(user_hash(user), until_us) for user in users])


def _delete(connection: Connection, what: str, values: Sequence[str] | Sequence[int]) -> int:
    return sum(connection.execute(f"delete from {what}", (value,)).rowcount for value in values)


def _remaining(connections: SqliteConnections, users: Sequence[str]) -> tuple[str, ...]:
    """Clean the log and the file; what could not be cleaned.

    Deleted rows are zeros already, but earlier copies of them may lie where pages were split or rows grew.
    """
    if not connections.fold_back():
        return (_IN_LOG,)
    if not connections.holds(users):
        return ()
    try:
        connections.write_anew()
    except StoreUnavailable as error:
        return (f"{_IN_FREE_SPACE} ({error})",)
    return () if connections.fold_back() else (_IN_LOG,)
