"""Whether a part of a request that fails is worth asking again, and how good the index is on real queries."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty, Full, Queue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from recsys.guard import AlwaysOn
from recsys.live import CatalogView

FAILURES_IN_A_ROW = 3
PAUSE_S = 1.0


class Guard(AlwaysOn):
    """A circuit breaker: after a few failures in a row it says no for a while, then lets one through to try."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._closed_until = 0.0
        self._lock = Lock()

    def works(self) -> bool:
        if self._failures < FAILURES_IN_A_ROW:  # the common way, without the lock
            return True
        with self._lock:
            now = self._clock()
            if now < self._closed_until:
                return False
            self._closed_until = now + PAUSE_S  # this one tries; the others go on without
            return True

    def note(self, worked: bool) -> None:
        if worked:
            if self._failures:
                self._failures = 0
            return
        with self._lock:
            self._failures += 1
            self._closed_until = self._clock() + PAUSE_S


class OnlineRecall:
    """A sampled share of queries, repeated with exact search in the background.

    `offer` costs a request next to nothing; `measure_one` is called from a thread.
    """

    def __init__(self, observe: Callable[[float], None], every_s: float, k: int = 100) -> None:
        """
        Args:
            observe: told each recall@k in [0, 1].
            every_s: at most one query in so many seconds; 0 measures none.
        """
        self._observe = observe
        self._every_s = every_s
        self._k = k
        self._next_at = 0.0
        self._waiting: Queue[tuple[CatalogView, NDArray[np.float32], NDArray[np.int64]]] = Queue(maxsize=1)

    def offer(self, catalog: CatalogView, query_vector: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        """One search without a filter as it was answered: `rows` int64 [F], best first."""
        now = time.monotonic()
        if not self._every_s or now < self._next_at or not len(rows):
            return
        self._next_at = now + self._every_s
        try:
            self._waiting.put_nowait((catalog, query_vector, rows[: self._k]))
        except Full:
            return

    def measure_one(self) -> bool:
        """Measure what waits; whether anything did."""
        try:
            catalog, query_vector, rows = self._waiting.get_nowait()
        except Empty:
            return False
        shown = np.flatnonzero(~catalog.hidden)
        exact, _ = catalog.index.search_within(query_vector, shown, len(rows))
        self._observe(float(np.isin(exact, rows).mean()) if len(exact) else 1.0)
        return True


class IndexGuard(Guard):
    """A guard that also offers what the index answered for measuring."""

    def __init__(self, recall: OnlineRecall, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._recall = recall

    def answered(self, catalog: CatalogView, query_vector: NDArray[np.float32], rows: NDArray[np.int64]) -> None:
        self._recall.offer(catalog, query_vector, rows)
