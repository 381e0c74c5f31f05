"""`redis://host:port/db[?namespace=NAME]`: one real Redis 6 or later for the processes of several machines.

The keys, each after `NAME:` (`recsys:` by default):
    u:USER_ID            a user's packed state (`recsys.storage.packed`): one GET a request
    e:DIGEST             this event_id was accepted; forgotten after `IDEMPOTENCY_DAYS`
    log, exposures       streams of packed records, in order of arrival, never trimmed by us
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

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from recsys.errors import StoreUnavailable
from recsys.events import EventStatus, Exposure, Interaction
from recsys.ports import LiveItem, UserState
from recsys.storage.packed import (
    NO_VERSION,
    VERSION_BYTES,
    history_item,
    merge_history,
    pack_state,
    unpack_state,
    with_blocked,
)
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
from recsys.storage.redis_connection import RedisConnection
from recsys.storage.redis_keys import RedisKeys
from recsys.storage.redis_scripts import COMMIT, UPSERT
from recsys.types import HistoryItem

IDEMPOTENCY_DAYS = 90
_MAX_TRIES = 200  # each means that another writer succeeded meanwhile
_IMPORT_USERS = 100
_PAGE = 1000
_FIELD = b"r"
_Record = TypeVar("_Record")
_Change = TypeVar("_Change")
_Answer = TypeVar("_Answer")


class RedisStore:
    """Implements `recsys.ports.Store`; safe from several threads, processes and machines.

    A write that raises StoreUnavailable after a timeout may have happened: send it again, its events are then
    duplicates.
    """

    def __init__(self, url: str) -> None:
        """Asks the server nothing yet. Raises ConfigError when the URL is not whole."""
        self._redis = RedisConnection(url)
        self._keys = RedisKeys(self._redis.namespace)
        # The client sends a script's digest, and the script itself where the server has forgotten it.
        self._commit_script = self._redis.client.register_script(COMMIT)
        self._upsert_script = self._redis.client.register_script(UPSERT)

    def user_state(self, user_id: str) -> UserState:
        key = self._keys.state(user_id)
        return unpack_state(self._redis.read(lambda client: client.get(key)))

    def import_histories(self, histories: Iterable[tuple[str, Sequence[HistoryItem]]]) -> int:
        n_users = 0
        remaining = iter(histories)
        while chunk := list(islice(remaining, _IMPORT_USERS)):
            arrivals: dict[str, list[HistoryItem]] = {}
            for user_id, items in chunk:
                arrivals.setdefault(user_id, []).extend(items)
            self._change_states(arrivals, lambda state, items: merge_history(state, items, imported=True))
            n_users += len(chunk)
        return n_users

    def block(self, user_id: str, item_ids: Sequence[str]) -> None:
        self._change_states({user_id: item_ids}, with_blocked)

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        arguments = [part for item in items for part in (item.item_id.encode(), pack_item(item))]
        with self._redis.asking():
            return int(self._upsert_script(keys=[self._keys.items, self._keys.items_order], args=arguments))

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

    def append(self, interactions: Sequence[Interaction]) -> list[EventStatus]:
        keys = [self._keys.event(event.event_id) for event in interactions]
        records = [pack_interaction(event) for event in interactions]
        if not records:
            return []
        return _until_undisturbed(lambda: self._try_append(interactions, keys, records))

    def _try_append(
        self, interactions: Sequence[Interaction], keys: list[bytes], records: list[bytes]
    ) -> list[EventStatus] | None:
        """None when another writer came between."""
        users = {event.user_id: self._keys.state(event.user_id) for event in interactions}
        values = self._redis.read(lambda client: client.mget([*users.values(), *keys]))
        states = dict(zip(users, values[: len(users)], strict=True))
        taken = {key for key, value in zip(keys, values[len(users) :], strict=True) if value is not None}
        statuses: list[EventStatus] = []
        accepted: dict[bytes, bytes] = {}
        arrivals: dict[str, list[HistoryItem]] = {}
        for event, key, record in zip(interactions, keys, records, strict=True):
            if key in taken or key in accepted:
                statuses.append("duplicate")
                continue
            statuses.append("accepted")
            accepted[key] = record
            arrivals.setdefault(event.user_id, []).append(history_item(event))
        changed = {user_id: (states[user_id], items) for user_id, items in arrivals.items()}
        return statuses if self._commit(changed, merge_history, accepted) else None

    def _change_states(self, changes: Mapping[str, _Change], change: Callable[[UserState, _Change], UserState]) -> None:
        keys = [self._keys.state(user_id) for user_id in changes]

        def attempt() -> bool | None:
            packed = self._redis.read(lambda client: client.mget(keys))
            pairs = zip(packed, changes.values(), strict=True)
            return self._commit(dict(zip(changes, pairs, strict=True)), change, {}) or None

        if keys:
            _until_undisturbed(attempt)

    def _commit(
        self,
        changes: Mapping[str, tuple[bytes | None, _Change]],
        change: Callable[[UserState, _Change], UserState],
        events: Mapping[bytes, bytes],
    ) -> bool:
        """Store the changed states and the events (key → record) in one step; False when another writer came
        between the reading of the states and now, and nothing was stored."""
        keys: list[bytes] = []
        values: list[bytes] = []
        for user_id, (packed, by) in changes.items():
            before = unpack_state(packed)
            after = change(before, by)
            if after is not before:
                keys.append(self._keys.state(user_id))
                values += [packed[:VERSION_BYTES] if packed else NO_VERSION, pack_state(after)]
        if not keys and not events:
            return True
        arguments: list[bytes | int] = [len(keys), len(events), IDEMPOTENCY_DAYS * 86_400, *values, *events.values()]
        with self._redis.asking():
            return bool(self._commit_script(keys=[self._keys.log, *keys, *events], args=arguments))

    def append_exposure(self, exposure: Exposure) -> None:
        with self._redis.asking() as client:
            client.xadd(self._keys.exposures, {_FIELD: pack_exposure(exposure)})

    def read(self, after: str = "") -> Iterator[tuple[str, Interaction]]:
        return self._records(self._keys.log, after, unpack_interaction)

    def exposures(self, after: str = "") -> Iterator[tuple[str, Exposure]]:
        return self._records(self._keys.exposures, after, unpack_exposure)

    def _records(self, stream: bytes, after: str, unpack: Callable[[bytes], _Record]) -> Iterator[tuple[str, _Record]]:
        log_id = self._redis.read(self._ask_log_id)
        return self._pages(stream, log_id, position_in(after, log_id, "0-0"), unpack)

    def _ask_log_id(self, client: Any) -> str:
        log_id = client.get(self._keys.log_id)
        if log_id is None:  # asked first, for a full Redis refuses to set what is there already
            client.setnx(self._keys.log_id, secrets.token_hex(8))
            log_id = client.get(self._keys.log_id)
        return str(log_id.decode())

    def _pages(
        self, stream: bytes, log_id: str, last: str, unpack: Callable[[bytes], _Record]
    ) -> Iterator[tuple[str, _Record]]:
        while True:
            milliseconds, _, number = last.partition("-")
            start = f"{milliseconds}-{int(number) + 1}"
            page = self._redis.read(partial(_xrange, stream=stream, start=start))
            for position, fields in page:
                last = position.decode()
                yield cursor_of(log_id, last), unpack(fields[_FIELD])
            if len(page) < _PAGE:
                return

    def ping(self) -> None:
        self._redis.read(lambda client: client.ping())

    def close(self) -> None:
        self._redis.close()


def _hmget(client: Any, name: bytes, keys: list[bytes]) -> list[bytes | None]:
    values: list[bytes | None] = client.hmget(name, keys)
    return values


def _xrange(client: Any, stream: bytes, start: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    page: list[tuple[bytes, dict[bytes, bytes]]] = client.xrange(stream, min=start, count=_PAGE)
    return page


def _until_undisturbed(attempt: Callable[[], _Answer | None]) -> _Answer:
    """Repeat `attempt` until it gives an answer. Each None means that another writer succeeded, so that somebody
    always moves on; waiting a little longer each time lets the others end first."""
    for tries in range(_MAX_TRIES):
        answer = attempt()
        if answer is not None:
            return answer
        time.sleep(min(tries, 20) * 0.001)
    raise StoreUnavailable(f"{_MAX_TRIES} other writers changed the same users first; send fewer writers at a time")
