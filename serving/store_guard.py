"""The store as the whole process sees it: while it hangs it is not asked, and its failures are in the log.

A store that refuses costs a request nothing. One that takes connections and never answers costs each request its time
limit, and soon all threads wait; so after a few such waits a kind of call is skipped for a moment, then tried once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.errors import StoreUnavailable
from recsys.events import (
    ErasureReceipt,
    EventStatus,
    Exposure,
    Interaction,
    SpoolRange,
    StoredExposures,
    UserMerge,
)
from recsys.ports import LiveItem, Store, UserState
from recsys.types import HistoryItem
from serving.telemetry import log

HANGS_S = 0.2  # a failure that took longer is a store that hangs, not one that refuses
HANGS_IN_A_ROW = 3
PAUSE_S = 1.0
LOG_EVERY_S = 10.0

GUARDED = (
    "user_state",
    "import_histories",
    "block",
    "unblock",
    "note_served",
    "merge_users",
    "erase_user",
    "upsert_items",
    "delete_items",
    "items_since",
    "trending",
    "append",
    "append_exposure",
    "append_exposures",
)

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
        self._breakers = {call: Breaker(call, clock) for call in GUARDED}

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        return self._breakers["user_state"].run(lambda: self._store.user_state(user_id, with_served))

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        return self._breakers["import_histories"].run(lambda: self._store.import_histories(histories))

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        self._breakers["block"].run(lambda: self._store.block(user_id, item_ids))

    def unblock(self, user_id: str, item_ids: Sequence[str]) -> None:
        self._breakers["unblock"].run(lambda: self._store.unblock(user_id, item_ids))

    def note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        self._breakers["note_served"].run(lambda: self._store.note_served(user_id, item_hashes, at_ms, keep_s))

    def merge_users(self, source_user_id: str, target_user_id: str, *, now: datetime) -> UserState:
        return self._breakers["merge_users"].run(
            lambda: self._store.merge_users(source_user_id, target_user_id, now=now)
        )

    def merges(self) -> Iterator[UserMerge]:
        return self._store.merges()

    def erase_user(self, user_id: str, *, now: datetime) -> ErasureReceipt:
        return self._breakers["erase_user"].run(lambda: self._store.erase_user(user_id, now=now))

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        return self._breakers["upsert_items"].run(lambda: self._store.upsert_items(items))

    def delete_items(self, item_ids: Sequence[str]) -> int:
        return self._breakers["delete_items"].run(lambda: self._store.delete_items(item_ids))

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        return self._breakers["items_since"].run(lambda: self._store.items_since(version))

    def trending(self, now_ms: int, half_life_s: float, k: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        return self._breakers["trending"].run(lambda: self._store.trending(now_ms, half_life_s, k))

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        return self._breakers["append"].run(lambda: self._store.append(interactions))

    def append_exposure(self, exposure: Exposure) -> None:
        self._breakers["append_exposure"].run(lambda: self._store.append_exposure(exposure))

    def append_exposures(
        self, exposures: Sequence[Exposure], spooled: SpoolRange | None = None, *, served_keep_s: float = 0.0
    ) -> StoredExposures:
        return self._breakers["append_exposures"].run(
            lambda: self._store.append_exposures(exposures, spooled, served_keep_s=served_keep_s)
        )

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._store.read(after)

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._store.exposures(after)

    def ping(self) -> None:
        """Always asks: this is how somebody finds out."""
        self._store.ping()

    def close(self) -> None:
        self._store.close()
