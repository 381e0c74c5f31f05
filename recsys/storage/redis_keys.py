"""The names of our keys in Redis; `recsys.storage.redis_store` says what lies under each."""

from __future__ import annotations

from recsys.events import user_hash
from recsys.storage.records import event_key


class RedisKeys:
    """All keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        name = namespace.encode()
        self.log, self.exposures, self.log_id = name + b":log", name + b":exposures", name + b":log-id"
        self.items, self.items_order = name + b":items", name + b":items:order"
        self.merges, self.merge_pairs = name + b":merges", name + b":merges:pairs"
        self._states, self._events, self._served = name + b":u:", name + b":e:", name + b":s:"
        self._erased, self._drained, self._taken = name + b":x:", name + b":d:", name + b":t:"

    def state(self, user_id: str) -> bytes:
        return self._states + user_id.encode()

    def served(self, user_id: str) -> bytes:
        return self._served + user_id.encode()

    def event(self, event_id: str) -> bytes:
        return self._events + event_key(event_id)

    def erased(self, user_id: str) -> bytes:
        return self._erased + user_hash(user_id).encode()

    def drained(self, spool_id: str) -> bytes:
        return self._drained + spool_id.encode()

    def taken(self, bucket: int) -> bytes:
        return self._taken + str(bucket).encode()
