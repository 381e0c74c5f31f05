"""A bounded cache of what was used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

V = TypeVar("V")


class RecentlyUsed(Generic[V]):
    """At most `capacity` values by text, the one used longest ago leaving first. For any number of threads.

    Attributes:
        n_hits, n_misses: how often `get` or `get_or_make` found one, and did not.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_hits = 0
        self.n_misses = 0
        self._values: OrderedDict[str, V] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._values)

    def latest(self, n: int) -> list[str]:
        """The `n` texts that were used last, the very last at the end."""
        with self._lock:
            return list(self._values)[-n:]

    def get(self, key: str) -> V | None:
        with self._lock:
            value = self._values.get(key)
            if value is None:
                self.n_misses += 1
                return None
            self.n_hits += 1
            self._values.move_to_end(key)
            return value

    def get_or_make(self, key: str, make: Callable[[], V]) -> V:
        """What is kept, or what `make` answers, outside of the lock: two threads may make the same at once."""
        kept = self.get(key)
        if kept is not None:
            return kept
        made = make()
        with self._lock:
            kept = self._values.setdefault(key, made)
            self._values.move_to_end(key)
            if len(self._values) > self.capacity:
                self._values.popitem(last=False)
        return kept
