"""`redis://host:port/db[?namespace=NAME]`: one real Redis 6 or later for the processes of several machines.

The keys, each after `NAME:` (`recsys:` by default):
    u:USER_ID            a user's packed state (`recsys.storage.packed`): one GET a request
    s:USER_ID            what the user was served lately, packed; forgotten by itself
    e:DIGEST             this event_id was accepted; forgotten after `IDEMPOTENCY_DAYS`
    x:DIGEST             until when (µs) what this user did was erased; never forgotten
    log, exposures       streams of packed records, in order of arrival, never trimmed by us
    merges, merges:pairs a list of packed merges, and the pairs that it names
    d:SPOOL_ID           up to which byte a spool of exposures is stored
    t:BUCKET             a sorted set: how often each item was taken in these ten minutes
    items, items:order   packed live items by item_id, and their order of writing
    log-id               names this log in cursors

A write reads the states it changes, merges here, and hands the results to one Lua script, which stores all of them
or, when somebody changed one of them meanwhile, none; then it is tried again on the new states.

What an acknowledged event survives is the server's setting: with `appendonly yes` and `appendfsync always`, a crash and
a power cut; with `appendfsync everysec`, all but the last two seconds of either. `maxmemory-policy` must be
`noeviction`: this is a store, not a cache. One server (with replicas), not Redis Cluster: the script's keys live in
several slots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar

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
)
from recsys.ports import LiveItem, UserState
from recsys.storage import trending
from recsys.storage.packed import (
    MAX_SERVED_BYTES,
    NO_VERSION,
    VERSION_BYTES,
    PackedUserState,
    hashes_of,
    history_item,
    merge_history,
    pack_served,
    pack_state,
    unpack_state,
    with_blocked,
    with_merged,
    without_blocked,
)
from recsys.storage.records import (
    deleted_items,
    merge_key,
    pack_exposure,
    pack_interaction,
    pack_item,
    pack_merge,
    unpack_exposure,
    unpack_interaction,
    unpack_item,
)
from recsys.storage.redis_connection import RedisConnection, until_undisturbed
from recsys.storage.redis_keys import RedisKeys
from recsys.storage.redis_log import RedisLog
from recsys.storage.redis_scripts import COMMIT, EXPOSE, MERGE, NOTE_SERVED, UPSERT
from recsys.types import HistoryItem

IDEMPOTENCY_DAYS = 90
_DAY_S = 86_400
_IMPORT_USERS = 100
_PAGE = 1000
_KEEP_BUCKET_S = trending.BUCKET_S * (trending.N_BUCKETS + 2)
_NEVER_ERASED = b""
_Change = TypeVar("_Change")


class RedisStore:
    """Implements `recsys.ports.Store`; safe from several threads, processes and machines.

    A write that raises StoreUnavailable after a timeout may have happened: send it again, its events are then
    duplicates.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        """Asks the server nothing yet. Raises ConfigError when the URL is not whole."""
        self._redis = RedisConnection(url)
        self._keys = RedisKeys(self._redis.namespace)
        self._log = RedisLog(self._redis, self._keys)
        self._clock = clock
        # The client sends a script's digest, and the script itself where the server has forgotten it.
        scripts = (COMMIT, UPSERT, NOTE_SERVED, EXPOSE, MERGE)
        self._commit_script, self._upsert_script, self._note_script, self._expose_script, self._merge_script = (
            self._redis.client.register_script(script) for script in scripts
        )

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        key = self._keys.state(user_id)
        if not with_served:
            return unpack_state(self._redis.read(lambda client: client.get(key)))
        keys = [key, self._keys.served(user_id)]
        return PackedUserState(*self._redis.read(lambda client: client.mget(keys))).unpack()

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        n_users = 0
        remaining = iter(histories)
        while chunk := list(islice(remaining, _IMPORT_USERS)):
            arrivals: dict[str, list[HistoryItem]] = {}
            for user_id, items in chunk:
                arrivals.setdefault(user_id, []).extend(items)
            until_undisturbed(partial(self._try_import, arrivals))
            n_users += len(chunk)
        return n_users

    def _try_import(self, arrivals: Mapping[str, Sequence[HistoryItem]]) -> bool | None:
        keys = [*map(self._keys.state, arrivals), *map(self._keys.erased, arrivals)]
        values = self._redis.read(lambda client: client.mget(keys))
        erased = dict(zip(arrivals, values[len(arrivals) :], strict=True))
        changes = {}
        for (user_id, items), packed in zip(arrivals.items(), values[: len(arrivals)], strict=True):
            until_us = erased[user_id]
            kept = [item for item in items if until_us is None or item.occurred_at_ms * 1000 > int(until_us)]
            changes[user_id] = (packed, kept)
        merge = partial(merge_history, imported=True)
        return self._commit(changes, lambda state, items: merge(state, items), erased=erased) or None

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        self._change_state(user_id, partial(with_blocked, item_ids=item_ids))

    def unblock(self, user_id: str, item_ids: Sequence[str]) -> None:
        self._change_state(user_id, partial(without_blocked, item_ids=item_ids))

    def _change_state(self, user_id: str, change: Callable[[UserState], UserState]) -> None:
        key = self._keys.state(user_id)

        def attempt() -> bool | None:
            packed = self._redis.read(lambda client: client.get(key))
            return self._commit({user_id: (packed, None)}, lambda state, _: change(state)) or None

        until_undisturbed(attempt)

    def note_served(self, user_id: str, item_hashes: NDArray[np.uint64], at_ms: int, keep_s: float) -> None:
        keys = [self._keys.served(user_id), self._keys.erased(user_id)]
        arguments: list[bytes | int] = [
            pack_served(item_hashes, at_ms),
            at_ms * 1000,
            _whole_ms(keep_s),
            MAX_SERVED_BYTES,
        ]
        with self._redis.asking():
            self._note_script(keys=keys, args=arguments)

    def merge_users(self, source_user_id: str, target_user_id: str, *, now: datetime) -> UserState:
        if source_user_id == target_user_id:
            return self.user_state(target_user_id)
        merge = UserMerge(source_user_id, target_user_id, now)
        return until_undisturbed(lambda: self._try_merge(merge))

    def _try_merge(self, merge: UserMerge) -> UserState | None:
        users = (merge.source_user_id, merge.target_user_id)
        states, served = [[*map(key, users)] for key in (self._keys.state, self._keys.served)]
        source, target = self._redis.read(lambda client: client.mget(states))
        before = unpack_state(target)
        after = with_merged(before, unpack_state(source))
        arguments: list[bytes | int] = [
            source[:VERSION_BYTES] if source else NO_VERSION,
            target[:VERSION_BYTES] if target else NO_VERSION,
            b"" if after is before else pack_state(after),
            pack_merge(merge),
            merge_key(merge),
            MAX_SERVED_BYTES,
        ]
        with self._redis.asking():
            merged = self._merge_script(
                keys=[*states, *served, self._keys.merges, self._keys.merge_pairs], args=arguments
            )
        return after if merged else None

    def merges(self) -> Iterator[UserMerge]:
        return self._log.merges()

    def erase_user(self, user_id: str, *, now: datetime) -> ErasureReceipt:
        return self._log.erase_user(user_id, now)

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        arguments = [part for item in items for part in (item.item_id.encode(), pack_item(item))]
        with self._redis.asking():
            return int(self._upsert_script(keys=[self._keys.items, self._keys.items_order], args=arguments))

    def delete_items(self, item_ids: Sequence[str]) -> int:
        return self.upsert_items(deleted_items(item_ids))

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        now, written = self._written_since(version)
        records: list[bytes | None] = []
        for at in range(0, len(written), _PAGE):
            item_ids = [item_id for item_id, _ in written[at : at + _PAGE]]
            records += self._redis.read(partial(_hmget, name=self._keys.items, keys=item_ids))
        pairs = zip(records, written, strict=True)  # a record may have gone since its name was read: FLUSHALL
        return now, tuple(unpack_item(record, int(score)) for record, (_, score) in pairs if record is not None)

    def _written_since(self, version: int) -> tuple[int, list[tuple[bytes, float]]]:
        def ask(client: Any) -> list[Any]:
            # The version first: an item written between the two is then read again, and none is left out. No
            # transaction, for a full Redis refuses even the reads in one.
            together = client.pipeline(transaction=False)
            together.zrange(self._keys.items_order, -1, -1, withscores=True)
            together.zrangebyscore(self._keys.items_order, f"({version}", "+inf", withscores=True)
            return list(together.execute())

        last, written = self._redis.read(ask)
        now = int(last[0][1]) if last else 0
        return (now, written) if now >= version else self._written_since(0)

    def trending(self, now_ms: int, half_life_s: float, k: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        buckets = trending.buckets_to_read(now_ms, half_life_s)

        def ask(client: Any) -> list[Any]:
            together = client.pipeline(transaction=False)
            for bucket in buckets:
                together.zrevrange(self._keys.taken(bucket), 0, trending.depth_for(k) - 1, withscores=True)
            return list(together.execute())

        answers = zip(buckets, self._redis.read(ask), strict=True)
        counts = {bucket: [(name.decode(), count) for name, count in taken] for bucket, taken in answers}
        return trending.most_taken(counts, now_ms, half_life_s, k)

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        keys = [self._keys.event(event.event_id) for event in interactions]
        records = [pack_interaction(event) for event in interactions]
        if not records:
            return []
        return until_undisturbed(lambda: self._try_append(interactions, keys, records))

    def _try_append(
        self, interactions: Sequence[Interaction], keys: list[bytes], records: list[bytes]
    ) -> list[EventStatus] | None:
        """None when another writer came between."""
        users = list(dict.fromkeys(event.user_id for event in interactions))
        asked = [*map(self._keys.state, users), *map(self._keys.erased, users), *keys]
        values = self._redis.read(lambda client: client.mget(asked))
        states = dict(zip(users, values[: len(users)], strict=True))
        erased = dict(zip(users, values[len(users) : 2 * len(users)], strict=True))
        taken = {key for key, value in zip(keys, values[2 * len(users) :], strict=True) if value is not None}
        statuses: list[EventStatus] = []
        accepted: dict[bytes, tuple[Interaction, bytes]] = {}
        for event, key, record in zip(interactions, keys, records, strict=True):
            if key in taken or key in accepted:
                statuses.append("duplicate")
            elif micros_of(event.occurred_at) <= int(erased[event.user_id] or -1):
                statuses.append("rejected")
            else:
                statuses.append("accepted")
                accepted[key] = (event, record)
        arrivals: dict[str, list[HistoryItem]] = {}
        for event, _ in accepted.values():
            arrivals.setdefault(event.user_id, []).append(history_item(event))
        changed = {user_id: (states[user_id], items) for user_id, items in arrivals.items()}
        expected = {user_id: erased[user_id] for user_id in arrivals}
        return statuses if self._commit(changed, merge_history, accepted, erased=expected) else None

    def _commit(
        self,
        changes: Mapping[str, tuple[bytes | None, _Change]],
        change: Callable[[UserState, _Change], UserState],
        events: Mapping[bytes, tuple[Interaction, bytes]] | None = None,
        *,
        erased: Mapping[str, bytes | None] | None = None,
    ) -> bool:
        """Store the changed states and the events (key → event, record) in one step; False when another writer came
        between the reading of the states and times of erasure and now, and nothing was stored."""
        events, erased = events or {}, erased or {}
        states: dict[bytes, list[bytes]] = {}
        for user_id, (packed, by) in changes.items():
            before = unpack_state(packed)
            after = change(before, by)
            if after is not before:
                version = packed[:VERSION_BYTES] if packed else NO_VERSION
                states[self._keys.state(user_id)] = [version, pack_state(after)]
        if not states and not events:
            return True
        taken = trending.counted((event for event, _ in events.values()), self._clock())
        arguments: list[bytes | str | int] = [len(states), len(erased), len(events), len(taken)]
        arguments += [IDEMPOTENCY_DAYS * _DAY_S, _KEEP_BUCKET_S, trending.MAX_ITEMS, trending.KEPT_ITEMS]
        arguments += [part for expected_and_new in states.values() for part in expected_and_new]
        arguments += [until_us or _NEVER_ERASED for until_us in erased.values()]
        arguments += [record for _, record in events.values()]
        for counts in taken.values():
            arguments += [len(counts), *(part for item_id, count in counts.items() for part in (count, item_id))]
        keys = [self._keys.log, *states, *map(self._keys.erased, erased), *events, *map(self._keys.taken, taken)]
        with self._redis.asking():
            return bool(self._commit_script(keys=keys, args=arguments))

    def append_exposure(self, exposure: Exposure) -> None:
        self.append_exposures([exposure])

    def append_exposures(
        self, exposures: Sequence[Exposure], spooled: SpoolRange | None = None, *, served_keep_s: float = 0.0
    ) -> StoredExposures:
        users = list(dict.fromkeys(exposure.user_id for exposure in exposures if exposure.user_id is not None))
        number_of = {user_id: number for number, user_id in enumerate(users, start=1)}
        keys = [self._keys.exposures, self._keys.drained(spooled.spool_id if spooled else "")]
        keys += [key(user_id) for user_id in users for key in (self._keys.erased, self._keys.served)]
        start, end = (spooled.start, spooled.end) if spooled else (-1, 0)
        arguments: list[bytes | int] = [start, end, IDEMPOTENCY_DAYS * _DAY_S]
        arguments += [_whole_ms(served_keep_s) if served_keep_s else 0, MAX_SERVED_BYTES]
        for exposure in exposures:
            at_us = micros_of(exposure.occurred_at)
            marks = pack_served(hashes_of(exposure.item_ids), at_us // 1000) if served_keep_s else b""
            arguments += [pack_exposure(exposure), at_us, number_of.get(exposure.user_id or "", 0), marks]
        with self._redis.asking():
            return StoredExposures(*map(int, self._expose_script(keys=keys, args=arguments)))

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._log.records(self._keys.log, after, unpack_interaction)

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._log.records(self._keys.exposures, after, unpack_exposure)

    def ping(self) -> None:
        self._redis.read(lambda client: client.ping())

    def close(self) -> None:
        self._redis.close()


def _whole_ms(seconds: float) -> int:
    """At least 1: Redis takes no shorter life."""
    return max(1, round(seconds * 1000))


def _hmget(client: Any, name: bytes, keys: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = client.hmget(name, keys)
    return values
