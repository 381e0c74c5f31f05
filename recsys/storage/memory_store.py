"""`memory://`: everything in this process, gone when it ends. For tests and a single worker."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count, takewhile
from threading import RLock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.events import (
    ErasureReceipt,
    EventStatus,
    Exposure,
    Interaction,
    SpoolRange,
    StoredExposures,
    UserMerge,
    micros_of,
    user_hash,
)
from recsys.ports import LiveItem, UserState
from recsys.storage import trending
from recsys.storage.packed import (
    MAX_SERVED_BYTES,
    hashes_of,
    history_item,
    merge_history,
    unpack_served,
    with_blocked,
    with_merged,
    with_served,
    without_blocked,
)
from recsys.storage.records import (
    cursor_of,
    deleted_items,
    merged_into,
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
_GONE = b""  # in place of an erased record, so that all others keep their places
_NEVER = -1
_Record = TypeVar("_Record")


class MemoryStore:
    """Implements `recsys.ports.Store`; safe from several threads of one process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._lock = RLock()
        self._clock = clock
        self._log_id = secrets.token_hex(8)
        self._states: dict[str, UserState] = {}
        self._served: dict[str, tuple[bytes, float]] = {}  # packed marks, and until when
        self._events: list[bytes] = []  # packed as elsewhere: small, and nobody can change them
        self._event_ids: set[str] = set()
        self._exposures: list[bytes] = []
        self._drained: dict[str, int] = {}
        self._merges: list[UserMerge] = []
        self._erased_until_us: dict[str, int] = {}
        self._taken: dict[int, Counter[str]] = {}
        self._items: dict[str, tuple[int, bytes]] = {}
        self._items_version = 0

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        state = self._states.get(user_id, _EMPTY)
        marks, until_s = self._served.get(user_id, (b"", 0.0)) if with_served else (b"", 0.0)
        if not marks or until_s <= self._clock():
            return state
        served, served_at_ms = unpack_served(marks)
        return replace(state, served=served, served_at_ms=served_at_ms)

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        n_users = 0
        for user_id, items in histories:
            with self._lock:
                erased_until_us = self._erased_until(user_id)
                kept = [item for item in items if item.occurred_at_ms * 1000 > erased_until_us or erased_until_us < 0]
                self._keep(user_id, merge_history(self.user_state(user_id), kept, imported=True))
            n_users += 1
        return n_users

    def _keep(self, user_id: str, state: UserState) -> None:
        if state.version:
            self._states[user_id] = state

    def _erased_until(self, user_id: str) -> int:
        return self._erased_until_us.get(user_hash(user_id), _NEVER) if self._erased_until_us else _NEVER

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        with self._lock:
            self._keep(user_id, with_blocked(self.user_state(user_id), item_ids))

    def unblock(self, user_id: str, item_ids: Sequence[str]) -> None:
        with self._lock:
            self._keep(user_id, without_blocked(self.user_state(user_id), item_ids))

    def note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        with self._lock:
            if at_ms * 1000 > self._erased_until(user_id):
                self._note_served(user_id, item_hashes, at_ms, keep_s)

    def _note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        now = self._clock()
        marks, until_s = self._served.pop(user_id, (b"", 0.0))
        self._served[user_id] = (with_served(marks if until_s > now else b"", item_hashes, at_ms), now + keep_s)
        while self._served:  # those written longest ago come first
            longest_ago = next(iter(self._served))
            if self._served[longest_ago][1] > now:
                return
            del self._served[longest_ago]

    def merge_users(self, source_user_id: str, target_user_id: str, *, now: datetime) -> UserState:
        with self._lock:
            if source_user_id == target_user_id:
                return self.user_state(target_user_id)
            source = self._states.pop(source_user_id, _EMPTY)
            self._keep(target_user_id, with_merged(self.user_state(target_user_id), source))
            self._join_served(source_user_id, target_user_id)
            known = any((m.source_user_id, m.target_user_id) == (source_user_id, target_user_id) for m in self._merges)
            if source.version or not known:
                self._merges.append(UserMerge(source_user_id, target_user_id, now))
            return self.user_state(target_user_id)

    def _join_served(self, source_user_id: str, target_user_id: str) -> None:
        nothing = (b"", 0.0)
        (of_source, until_s), (of_target, or_until_s) = (
            self._served.pop(user, nothing) for user in (source_user_id, target_user_id)
        )
        if of_source or of_target:
            joined = (of_source + of_target)[-MAX_SERVED_BYTES:]
            self._served[target_user_id] = (joined, max(until_s, or_until_s))

    def merges(self) -> Iterator[UserMerge]:
        return iter(tuple(self._merges))

    def erase_user(self, user_id: str, *, now: datetime) -> ErasureReceipt:
        with self._lock:
            users = merged_into(user_id, self._merges)
            kept = [m for m in self._merges if m.source_user_id not in users and m.target_user_id not in users]
            n_merges, self._merges = len(self._merges) - len(kept), kept
            n_states = sum(self._states.pop(user, None) is not None for user in users)
            n_served = sum(self._served.pop(user, None) is not None for user in users)
            names = [user.encode() for user in users]
            events = [(at, unpack_interaction(record)) for at, record in _naming(names, self._events)]
            mine = [(at, event) for at, event in events if event.user_id in users]
            for at, event in mine:
                self._events[at] = _GONE
                self._event_ids.discard(event.event_id)
            exposed = [(at, unpack_exposure(record)) for at, record in _naming(names, self._exposures)]
            shown = [(at, exposure) for at, exposure in exposed if exposure.user_id in users]
            for at, _ in shown:
                self._exposures[at] = _GONE
            times = [micros_of(event.occurred_at) for _, event in mine]
            times += [micros_of(exposure.occurred_at) for _, exposure in shown]
            for user in users:
                self._erased_until_us[user_hash(user)] = max([micros_of(now), self._erased_until(user), *times])
        return ErasureReceipt(user_hash(user_id), now, n_states, n_served, len(mine), len(shown), n_merges)

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        records = [(item.item_id, pack_item(item)) for item in items]
        with self._lock:
            for item_id, record in records:
                self._items_version += 1
                # Taken out first: the dict's order is then the order of the latest writes.
                self._items.pop(item_id, None)
                self._items[item_id] = (self._items_version, record)
            return self._items_version

    def delete_items(self, item_ids: Sequence[str]) -> int:
        return self.upsert_items(deleted_items(item_ids))

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        with self._lock:
            now = self._items_version
            since = version if version <= now else 0
            # The usual answer is "none", and should not cost a walk over all.
            new = [written for written in self._items.values() if written[0] > since] if now > since else []
        return now, tuple(unpack_item(record, written_at) for written_at, record in new)

    def trending(self, now_ms: int, half_life_s: float, k: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        with self._lock:
            wanted = trending.buckets_to_read(now_ms, half_life_s)
            counts = {
                bucket: self._taken[bucket].most_common(trending.depth_for(k))
                for bucket in wanted
                if bucket in self._taken
            }
        return trending.most_taken(counts, now_ms, half_life_s, k)

    def _count(self, events: Iterable[Interaction]) -> None:
        now_s = self._clock()
        for bucket, counts in trending.counted(events, now_s).items():
            taken = self._taken.setdefault(bucket, Counter())
            taken.update(counts)
            if len(taken) > trending.MAX_ITEMS:
                self._taken[bucket] = Counter(dict(taken.most_common(trending.KEPT_ITEMS)))
        oldest = trending.bucket_of(int(now_s * 1000)) - trending.N_BUCKETS
        for bucket in [bucket for bucket in self._taken if bucket <= oldest]:
            del self._taken[bucket]

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        records = [pack_interaction(event) for event in interactions]
        with self._lock:
            statuses = [self._append(event, record) for event, record in zip(interactions, records, strict=True)]
            self._count(e for e, status in zip(interactions, statuses, strict=True) if status == "accepted")
            return statuses

    def _append(self, event: Interaction, record: bytes) -> EventStatus:
        if event.event_id in self._event_ids:
            return "duplicate"
        if micros_of(event.occurred_at) <= self._erased_until(event.user_id):
            return "rejected"
        self._event_ids.add(event.event_id)
        self._events.append(record)
        self._states[event.user_id] = merge_history(self.user_state(event.user_id), [history_item(event)])
        return "accepted"

    def append_exposure(self, exposure: Exposure) -> None:
        self.append_exposures([exposure])

    def append_exposures(
        self, exposures: Sequence[Exposure], spooled: SpoolRange | None = None, *, served_keep_s: float = 0.0
    ) -> StoredExposures:
        records = [pack_exposure(exposure) for exposure in exposures]
        with self._lock:
            if spooled is not None:
                stored = self._drained.get(spooled.spool_id, 0)
                if stored > spooled.start:
                    return StoredExposures(stored, 0, 0)
                self._drained[spooled.spool_id] = spooled.end
            n_dropped = 0
            for exposure, record in zip(exposures, records, strict=True):
                user_id, at_us = exposure.user_id, micros_of(exposure.occurred_at)
                if user_id is not None and at_us <= self._erased_until(user_id):
                    n_dropped += 1
                    continue
                self._exposures.append(record)
                if user_id is not None and served_keep_s:
                    self._note_served(user_id, hashes_of(exposure.item_ids), at_us // 1000, served_keep_s)
        return StoredExposures(spooled.end if spooled else 0, len(exposures) - n_dropped, n_dropped)

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
        present = ((place, record) for place in places if (record := records[place]))
        return ((cursor_of(self._log_id, place + 1), unpack(record)) for place, record in present)

    def ping(self) -> None:
        """This process answers."""

    def close(self) -> None:
        """Nothing to let go of."""


def _naming(names: Sequence[bytes], records: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Places and records with one of these bytes anywhere: the others need not be unpacked."""
    return [(at, record) for at, record in enumerate(records) if record and any(name in record for name in names)]
