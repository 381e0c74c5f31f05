"""`memory://`: everything in this process, gone when it ends. For tests and a single worker."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, takewhile
from threading import Lock
from typing import TypeVar

from recsys.events import EventStatus, Exposure, Interaction
from recsys.ports import LiveItem, UserState
from recsys.storage.packed import history_item, merge_history, with_blocked
from recsys.storage.records import (
    cursor_of,
    pack_exposure,
    pack_interaction,
    pack_item,
    position_in,
    unpack_exposure,
    unpack_interaction,
    unpack_item,
)
from recsys.types import HistoryItem

_EMPTY = UserState()
_Record = TypeVar("_Record")


class MemoryStore:
    """Implements `recsys.ports.Store`; safe from several threads of one process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._log_id = secrets.token_hex(8)
        self._states: dict[str, UserState] = {}
        self._events: list[bytes] = []  # packed as elsewhere: small, and nobody can change them
        self._event_ids: set[str] = set()
        self._exposures: list[bytes] = []
        self._items: dict[str, tuple[int, bytes]] = {}
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
        records = [(item.item_id, pack_item(item)) for item in items]
        with self._lock:
            for item_id, record in records:
                self._items_version += 1
                # Taken out first: the dict's order is then the order of the latest writes.
                self._items.pop(item_id, None)
                self._items[item_id] = (self._items_version, record)
            return self._items_version

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        with self._lock:
            now = self._items_version
            since = version if version <= now else 0
            # The usual answer is "none", and should not cost a walk over all.
            new = [written for written in self._items.values() if written[0] > since] if now > since else []
        return now, tuple(unpack_item(record, written_at) for written_at, record in new)

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        records = [pack_interaction(event) for event in interactions]
        with self._lock:
            return [self._append(event, record) for event, record in zip(interactions, records, strict=True)]

    def _append(self, event: Interaction, record: bytes) -> EventStatus:
        if event.event_id in self._event_ids:
            return "duplicate"
        self._event_ids.add(event.event_id)
        self._events.append(record)
        self._states[event.user_id] = merge_history(self.user_state(event.user_id), [history_item(event)])
        return "accepted"

    def append_exposure(self, exposure: Exposure) -> None:
        self._exposures.append(pack_exposure(exposure))

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._records(self._events, after, unpack_interaction)

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._records(self._exposures, after, unpack_exposure)

    def _records(
        self, records: list[bytes], after: str, unpack: Callable[[bytes], _Record]
    ) -> Iterator[tuple[str, _Record]]:
        start = int(position_in(after, self._log_id, "0"))
        # By number, because the list grows while it is read.
        places = takewhile(lambda place: place < len(records), count(start))
        return ((cursor_of(self._log_id, place + 1), unpack(records[place])) for place in places)

    def ping(self) -> None:
        """This process answers."""

    def close(self) -> None:
        """Nothing to let go of."""
