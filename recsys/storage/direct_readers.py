"""Users' states for an event loop from stores that answer without a round trip.

A SQLite read of one row takes some 40 µs, as much as the two thread hops that would keep it off the loop, so it is made
in the loop's own thread. In WAL mode a reader waits for no writer; where it would have to wait after all (another
process is putting a log in order after a crash), it is refused at once, because nobody else is served meanwhile.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from recsys.errors import StoreUnavailable
from recsys.ports import PackedState, UserState
from recsys.storage.packed import PackedUserState

_STATE = "select state from user_states where user_id = ?"
_STATE_AND_SERVED = """select (select state from user_states where user_id = ?1),
    (select marks from served where user_id = ?1 and until_ms > ?2)"""


class _StateStore(Protocol):
    def user_state(self, user_id: str, with_served: bool = False) -> UserState: ...


class DirectStateReader:
    """Implements `recsys.ports.StateReader` over a store that answers from this process's memory."""

    def __init__(self, store: _StateStore) -> None:
        self._store = store

    async def packed_state(self, user_id: str, *, timeout_s: float, with_served: bool = False) -> PackedState:
        """See the port; takes no time, so that `timeout_s` is kept."""
        return self._store.user_state(user_id, with_served)

    async def close(self) -> None:
        """The store is not ours to close."""


class SqliteStateReader:
    """Implements `recsys.ports.StateReader` over a SQLite store's file, by a connection of its own."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """The file must have been made by `SqliteStore`. Raises StoreUnavailable."""
        self._path = path
        self._clock = clock
        self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    async def packed_state(self, user_id: str, *, timeout_s: float, with_served: bool = False) -> PackedState:
        """See the port; `timeout_s` is not needed, for nothing is waited for."""
        try:
            if with_served:
                wanted = (user_id, int(self._clock() * 1000))
                row = self._connection.execute(_STATE_AND_SERVED, wanted).fetchone()
            else:
                row = self._connection.execute(_STATE, (user_id,)).fetchone()
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return PackedUserState(*row) if row else PackedUserState(None)

    def _refused(self, error: sqlite3.Error) -> StoreUnavailable:
        return StoreUnavailable(f"SQLite store {self._path}: {error}. Check that the file is there and can be read")

    async def close(self) -> None:
        """See the port."""
        self._connection.close()
