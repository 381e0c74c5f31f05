"""The store as the whole process sees it: while it hangs it is not asked, and its failures are in the log.

A store that refuses costs a request nothing. One that takes connections and never answers costs each request its time
limit, and soon all threads wait; so after a few such waits a kind of call is skipped for a moment, then tried once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Lock
from typing import TypeVar

from recsys.errors import StoreUnavailable
from recsys.events import EventStatus, Exposure, Interaction
from recsys.ports import LiveItem, Store, UserState
from recsys.types import HistoryItem
from serving.telemetry import log

HANGS_S = 0.2  # a failure that took longer is a store that hangs, not one that refuses
HANGS_IN_A_ROW = 3
PAUSE_S = 1.0
LOG_EVERY_S = 10.0

T = TypeVar("T")


class Breaker:
    """One kind of call. Kinds are apart: a full Redis, or a locked SQLite, still answers reads."""

    def __init__(self, call: str, clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock
        self._hangs = 0
        self._skip_until = 0.0
        self._failed = False
        self._logged_at = -LOG_EVERY_S
        self._lock = Lock()

    def run(self, ask: Callable[[], T]) -> T:
        """`ask`'s answer. Raises StoreUnavailable as `ask` does, or at once where it would only wait."""
        self._require_open()
        started = self._clock()
        try:
            answer = ask()
        except StoreUnavailable as error:
            self._note_failure(error, self._clock() - started)
            raise
        self._note_answer()
        return answer

    def _require_open(self) -> None:
        with self._lock:
            now = self._clock()
            if now < self._skip_until:
                raise StoreUnavailable(f"the store hung on {self._call} a moment ago; it is tried again in a second")
            if self._hangs >= HANGS_IN_A_ROW:  # this one tries; the others go on without
                self._skip_until = now + PAUSE_S

    def _note_failure(self, error: StoreUnavailable, seconds: float) -> None:
        with self._lock:
            now = self._clock()
            self._failed = True
            self._hangs = self._hangs + 1 if seconds >= HANGS_S else 0
            if self._hangs >= HANGS_IN_A_ROW:
                self._skip_until = now + PAUSE_S
            is_due = now - self._logged_at >= LOG_EVERY_S
            if is_due:
                self._logged_at = now
        if is_due:
            log(logging.WARNING, "the store does not answer", call=self._call, why=str(error))

    def _note_answer(self) -> None:
        if not self._failed and not self._hangs:
            return  # the common way, without the lock
        with self._lock:
            self._failed, self._hangs, self._skip_until = False, 0, 0.0


class GuardedStore:
    """Implements `recsys.ports.Store` over another one; each of its calls behind a `Breaker`."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        calls = ("user_state", "import_histories", "block", "upsert_items", "items_since", "append", "append_exposure")
        self._breakers = {call: Breaker(call, clock) for call in calls}

    def user_state(self, user_id: str) -> UserState:
        return self._breakers["user_state"].run(lambda: self._store.user_state(user_id))

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        return self._breakers["import_histories"].run(lambda: self._store.import_histories(histories))

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        self._breakers["block"].run(lambda: self._store.block(user_id, item_ids))

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        return self._breakers["upsert_items"].run(lambda: self._store.upsert_items(items))

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        return self._breakers["items_since"].run(lambda: self._store.items_since(version))

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        return self._breakers["append"].run(lambda: self._store.append(interactions))

    def append_exposure(self, exposure: Exposure) -> None:
        self._breakers["append_exposure"].run(lambda: self._store.append_exposure(exposure))

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._store.read(after)

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._store.exposures(after)

    def ping(self) -> None:
        """Always asks: this is how somebody finds out."""
        self._store.ping()

    def close(self) -> None:
        self._store.close()
