"""A cache that keeps what was used last, up to a weight."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """The least recently used entries leave when the weights of all exceed `capacity`; 0 keeps nothing.

    Safe from several threads.
    """

    def __init__(self, capacity: int, weight: Callable[[V], int] = lambda value: 1) -> None:
        self._capacity = capacity
        self._weight = weight
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._total = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        with self._lock:
            value = self._entries.get(key)
            if value is not None:
                self._entries.move_to_end(key)
            return value

    def drop(self, key: K) -> None:
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self._total -= self._weight(before)

    def put(self, key: K, value: V) -> None:
        with self._lock:
            before = self._entries.pop(key, None)
            if before is not None:
                self._total -= self._weight(before)
            self._entries[key] = value
            self._total += self._weight(value)
            while self._total > self._capacity:
                _, oldest = self._entries.popitem(last=False)
                self._total -= self._weight(oldest)
