"""The logs of interactions and exposures as streams in Redis: reading them in pages, and taking a user out of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from recsys.events import ErasureReceipt, Exposure, Interaction, UserMerge, micros_of, user_hash
from recsys.storage.records import (
    cursor_of,
    merge_key,
    merged_into,
    pack_merge,
    position_in,
    unpack_exposure,
    unpack_interaction,
    unpack_merge,
)
from recsys.storage.redis_connection import RedisConnection, until_undisturbed
from recsys.storage.redis_keys import RedisKeys
from recsys.storage.redis_scripts import ERASE, ERASE_RECORDS

FIELD = b"r"
_PAGE = 1000
_START = "0-0"
_NOT_ERASED = (
    "Redis's append-only file and snapshots: until its next BGREWRITEAOF and BGSAVE",
    "Redis's memory of a stream's entries, which no client can read: until those beside them go too",
)
_Record = TypeVar("_Record", bound=Interaction | Exposure)


class RedisLog:
    """The streams of one namespace."""

    def __init__(self, connection: RedisConnection, keys: RedisKeys) -> None:
        self._redis = connection
        self._keys = keys
        self._erase_script = connection.client.register_script(ERASE)
        self._erase_records_script = connection.client.register_script(ERASE_RECORDS)

    def records(self, stream: bytes, after: str, unpack: Callable[[bytes], _Record]) -> Iterator[tuple[str, _Record]]:
        """See `EventLog.read`."""
        log_id = self._redis.read(self._ask_log_id)
        pages = self._pages(stream, position_in(after, log_id, _START), "+")
        return ((cursor_of(log_id, place.decode()), unpack(record)) for page in pages for place, record in page)

    def _ask_log_id(self, client: Any) -> str:
        log_id = client.get(self._keys.log_id)
        if log_id is None:  # asked first, for a full Redis refuses to set what is there already
            client.setnx(self._keys.log_id, secrets.token_hex(8))
            log_id = client.get(self._keys.log_id)
        return str(log_id.decode())

    def _pages(self, stream: bytes, last: str, end: str) -> Iterator[list[tuple[bytes, bytes]]]:
        """Places and packed records after `last`, up to and with `end`."""
        while True:
            milliseconds, _, number = last.partition("-")
            start = f"{milliseconds}-{int(number) + 1}"
            page = self._redis.read(partial(_xrange, stream=stream, start=start, end=end))
            if page:
                yield [(place, fields[FIELD]) for place, fields in page]
                last = page[-1][0].decode()
            if len(page) < _PAGE:
                return

    def merges(self) -> Iterator[UserMerge]:
        """See `FeatureStore.merges`."""
        start = 0
        while page := self._redis.read(partial(_lrange, name=self._keys.merges, start=start)):
            yield from map(unpack_merge, page)
            start += len(page)

    def erase_user(self, user_id: str, now: datetime) -> ErasureReceipt:
        """See `FeatureStore.erase_user`. First the states, with the time of erasure, in one step; from then on nothing
        old comes in, so that the streams can be gone through in pages, up to where they ended then."""
        users, (n_states, n_served, n_merges, last_event, last_exposure) = until_undisturbed(
            lambda: self._try_erase(user_id, now)
        )
        n_events = self._erase_records(self._keys.log, last_event.decode(), users, unpack_interaction)
        n_exposures = self._erase_records(self._keys.exposures, last_exposure.decode(), users, unpack_exposure)
        counts = (n_states, n_served, n_events, n_exposures, n_merges)
        return ErasureReceipt(user_hash(user_id), now, *counts, _NOT_ERASED)

    def _try_erase(self, user_id: str, now: datetime) -> tuple[list[str], Any] | None:
        merges = list(self.merges())
        users = list(merged_into(user_id, merges))
        named = set(users)
        going = [merge for merge in merges if merge.source_user_id in named or merge.target_user_id in named]
        keys = [self._keys.merges, self._keys.merge_pairs, self._keys.log, self._keys.exposures]
        keys += [key(user) for user in users for key in (self._keys.state, self._keys.served, self._keys.erased)]
        arguments: list[Any] = [len(merges), micros_of(now)]
        arguments += [part for merge in going for part in (pack_merge(merge), merge_key(merge))]
        with self._redis.asking():
            answer = self._erase_script(keys=keys, args=arguments)
        return (users, answer) if answer else None

    def _erase_records(self, stream: bytes, end: str, users: list[str], unpack: Callable[[bytes], _Record]) -> int:
        names = [user.encode() for user in users]
        named, gone = set(users), 0
        for page in self._pages(stream, _START, end):
            likely = [(place, record) for place, record in page if any(name in record for name in names)]
            unpacked = [(place, unpack(record)) for place, record in likely]
            mine = [(place, record) for place, record in unpacked if record.user_id in named]
            if mine:
                gone += self._erase_page(stream, users, mine)
        return gone

    def _erase_page(self, stream: bytes, users: list[str], mine: list[tuple[bytes, _Record]]) -> int:
        keys = [stream, *(self._keys.erased(user) for user in users)]
        keys += [self._keys.event(record.event_id) for _, record in mine if isinstance(record, Interaction)]
        latest_us = max(micros_of(record.occurred_at) for _, record in mine)
        with self._redis.asking():
            return int(
                self._erase_records_script(keys=keys, args=[len(users), latest_us, *(place for place, _ in mine)])
            )


def _xrange(client: Any, stream: bytes, start: str, end: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    page: list[tuple[bytes, dict[bytes, bytes]]] = client.xrange(stream, min=start, max=end, count=_PAGE)
    return page


def _lrange(client: Any, name: bytes, start: int) -> list[bytes]:
    page: list[bytes] = client.lrange(name, start, start + _PAGE - 1)
    return page
