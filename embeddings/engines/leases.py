"""The leases that one worker takes, one after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator

from embeddings.engines.todo import MAX_TRIES, Lease, Todo

PAUSE_S = 0.1


class Leases:
    """Iterating gives leases until all shards are committed, by whomever; safe to iterate in a thread of its own.

    A shard at which a worker died is taken with no other beside it, so that it alone is blamed when it happens again;
    one at which MAX_TRIES died is left.

    Attributes:
        left: shards that were left.
    """

    def __init__(
        self, todo: Todo, *, numbers: Collection[int] | None = None, is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """
        Args:
            numbers: take these alone; None: whatever is in the plan, until it is complete.
            is_wanted: whether the job still runs; asked when there is nothing to take, and before each lease.
        """
        self._todo = todo
        self._numbers = numbers
        self._is_wanted = is_wanted
        self._stopped = threading.Event()
        self._closed = threading.Condition()
        self._n_open = 0
        self.left: list[int] = []

    def __iter__(self) -> Iterator[Lease]:
        while self._goes_on():
            is_complete = self._numbers is not None or self._todo.is_complete  # before the listing that it speaks of
            pending = [number for number in self._todo.remaining() if self._is_mine(number)]
            if is_complete and not pending:
                return
            lease = self._first(pending)
            if lease is None:
                self._stopped.wait(PAUSE_S)
            elif lease.n_tries >= MAX_TRIES:
                lease.close()
                self.left.append(lease.number)
            elif not lease.n_tries:
                yield self._opened(lease)
            elif self._none_open():
                yield self._opened(lease)
                self._none_open()

    def closed(self) -> None:
        """The oldest lease is finished with."""
        with self._closed:
            self._n_open -= 1
            self._closed.notify()

    def stop(self) -> None:
        self._stopped.set()

    def _is_mine(self, number: int) -> bool:
        return number not in self.left and (self._numbers is None or number in self._numbers)

    def _first(self, pending: list[int]) -> Lease | None:
        for number in pending:
            if (lease := self._todo.lease(number)) is not None:
                return lease
        return None

    def _opened(self, lease: Lease) -> Lease:
        lease.begin()
        with self._closed:
            self._n_open += 1
        return lease

    def _none_open(self) -> bool:
        """Wait until no other is open; False when told to stop."""
        with self._closed:
            while self._n_open and self._goes_on():
                self._closed.wait(PAUSE_S)
        return self._goes_on()

    def _goes_on(self) -> bool:
        return not self._stopped.is_set() and self._is_wanted()
