"""One SQLite file: a connection a thread, its schema, transactions, and its errors in our words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import StoreUnavailable
from recsys.storage.sqlite_schema import SCHEMA_VERSION, upgrade

BUSY_TIMEOUT_S = 5.0
_SCAN_BYTES = 2**20


class SqliteConnections:
    """Hands each thread of each process its own connection to one file in WAL mode.

    Writes are transactions that take the write lock at once and wait `BUSY_TIMEOUT_S` for it. A committed one
    survives kill -9, and with `durable` a power cut too (an fsync each).
    """

    def __init__(self, path: Path) -> None:
        """Creates the file and its folder where they are absent. Raises StoreUnavailable."""
        self._path = path
        self._own = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        with self._in_our_words():
            path.parent.mkdir(parents=True, exist_ok=True)
            _prepare(self.get())
            row = self.get().execute("select value from meta where name = 'log_id'").fetchone()
        self.log_id = str(row[0])

    def get(self) -> sqlite3.Connection:
        """This thread's connection; a forked child opens its own, as SQLite demands."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None or self._own.pid != os.getpid():
            connection = self._connect()
            self._own.connection, self._own.pid = connection, os.getpid()
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("pragma synchronous = full")
        connection.execute("pragma cache_size = -8192")
        with self._lock:
            if self._closed:
                connection.close()
                raise StoreUnavailable(f"the store {self._path} was closed; open it again")
            self._open.append(connection)
        return connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for one statement. Raises StoreUnavailable."""
        with self._in_our_words():
            yield self.get()

    @contextmanager
    def transaction(self, kind: str = "immediate", *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, undone on any error. Raises StoreUnavailable."""
        with self._in_our_words():
            connection = self.get()
            if not durable:
                connection.execute("pragma synchronous = normal")
            try:
                connection.execute(f"begin {kind}")
                try:
                    yield connection
                    connection.execute("commit")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("rollback")
                    raise
            finally:
                if not durable:
                    connection.execute("pragma synchronous = full")

    @contextmanager
    def overwriting(self) -> Iterator[None]:
        """What this thread deletes meanwhile is overwritten with zeros."""
        with self._in_our_words():
            self.get().execute("pragma secure_delete = on")
            try:
                yield
            finally:
                self.get().execute("pragma secure_delete = off")

    def fold_back(self) -> bool:
        """Fold the write-ahead log back into the file and cut it, so that it holds nothing; False where somebody who
        reads for long stands in the way."""
        with self._in_our_words():
            busy, _, _ = self.get().execute("pragma wal_checkpoint(truncate)").fetchone()
        return not busy

    def holds(self, texts: Sequence[str]) -> bool:
        """Whether the file has these bytes anywhere, also where it is free."""
        wanted = [text.encode() for text in texts]
        overlap = max(map(len, wanted)) - 1
        with self._in_our_words(), self._path.open("rb") as file:
            tail = b""
            while part := file.read(_SCAN_BYTES):
                if any(each in tail + part for each in wanted):
                    return True
                tail = part[-overlap:] if overlap else b""
        return False

    def write_anew(self) -> None:
        """Write the file without what is free in it; others wait to write meanwhile, some seconds a GB."""
        with self._in_our_words():
            self.get().execute("vacuum")

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._own = threading.local()

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite store {self._path}: {error}. {_advice(error)}") from error
        except OSError as error:
            raise StoreUnavailable(
                f"SQLite store {self._path}: {error}. Check that its folder can be written"
            ) from error


def _prepare(connection: sqlite3.Connection) -> None:
    _use_wal(connection)
    connection.execute("begin immediate")
    try:
        found = upgrade(connection)
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    if found > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"the SQLite store was written by a newer version (schema {found}, this one knows {SCHEMA_VERSION}); "
            "upgrade this program or use another file"
        )


def _use_wal(connection: sqlite3.Connection) -> None:
    """The switch needs the file alone and does not wait for it: two processes opening a new file would collide."""
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.02)


def _advice(error: sqlite3.Error) -> str:
    words = str(error)
    if "locked" in words or "busy" in words:
        return f"Another process held its write lock for over {BUSY_TIMEOUT_S:g} s; try again, or find that process"
    if "disk" in words or "full" in words:
        return "Free disk space, then try again"
    if "readonly" in words or "unable to open" in words:
        return "Check that the file and its folder can be written by this user"
    if "not a database" in words or "malformed" in words:
        return "The file is damaged or no SQLite database; put back a copy, or name another file"
    return "Try again; if it stays, open the store anew"
