"""`memory://`: everything in this process, gone when it ends. For tests and a single worker."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import TypeVar

from recsys.events import EventStatus, Exposure, Interaction
from recsys.ports import LiveItem, UserState
from recsys.storage.packed import history_item, merge_history, with_blocked
from recsys.storage.records import cursor_of, position_in
from recsys.types import HistoryItem

_EMPTY = UserState()
_Record = TypeVar("_Record")


class MemoryStore:
    """Implements `recsys.ports.Store`; safe from several threads of one process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._log_id = secrets.token_hex(8)
        self._states: dict[str, UserState] = {}
        self._events: list[Interaction] = []
        self._event_ids: set[str] = set()
        self._exposures: list[Exposure] = []
        self._items: dict[str, LiveItem] = {}
        self._items_version = 0

    def user_state(self, user_id: str) -> UserState:
        return self._states.get(user_id, _EMPTY)

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        n_users = 0
        for user_id, items in histories:
            with self._lock:
                self._states[user_id] = merge_history(self.user_state(user_id), items, imported=True)
            n_users += 1
        return n_users

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        with self._lock:
            self._states[user_id] = with_blocked(self.user_state(user_id), item_ids)

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        with self._lock:
            for item in items:
                self._items_version += 1
                # Taken out first: the dict's order is then the order of the latest writes.
                self._items.pop(item.item_id, None)
                self._items[item.item_id] = replace(item, version=self._items_version)
            return self._items_version

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        with self._lock:
            now = self._items_version
            since = version if version <= now else 0
            # The usual answer is "none", and should not cost a walk over all.
            new = tuple(item for item in self._items.values() if item.version > since) if now > since else ()
            return now, new

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        arrivals = [(event, history_item(event)) for event in interactions]
        with self._lock:
            return [self._append(event, item) for event, item in arrivals]

    def _append(self, event: Interaction, item: HistoryItem) -> EventStatus:
        if event.event_id in self._event_ids:
            return "duplicate"
        self._event_ids.add(event.event_id)
        self._events.append(event)
        self._states[event.user_id] = merge_history(self.user_state(event.user_id), [item])
        return "accepted"

    def append_exposure(self, exposure: Exposure) -> None:
        with self._lock:
            self._exposures.append(exposure)

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._read(self._events, self._start(after))

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._read(self._exposures, self._start(after))

    def _start(self, after: str) -> int:
        return int(position_in(after, self._log_id, "0"))

    def _read(self, records: list[_Record], start: int) -> Iterator[tuple[str, _Record]]:
        while start < len(records):
            record, start = records[start], start + 1
            yield cursor_of(self._log_id, start), record

    def ping(self) -> None:
        """This process answers."""

    def close(self) -> None:
        """Nothing to let go of."""
