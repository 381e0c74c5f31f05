"""Blocking work off the event loop: a bounded number of threads, a bounded number waiting, then 429."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from recsys.errors import Overloaded

T = TypeVar("T")


class Admission:
    """How many requests of one lane are in work; one more than there may be is refused at once, before anything is done
    for it: a queue that is longer only makes everybody late."""

    __slots__ = ("most", "n")

    def __init__(self, most: int) -> None:
        self.most = most
        self.n = 0


class Work:
    """One pool. Each request hops into it at most once."""

    def __init__(self, name: str, *, threads: int, max_concurrent: int) -> None:
        """`max_concurrent`: calls in work or waiting; one more is refused."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._max_concurrent = max_concurrent
        self._n = 0
        self._lock = Lock()

    def require_room(self) -> None:
        """Raises Overloaded when one more call would be refused: asked before a body is read."""
        with self._lock:
            self._refuse_when_full()

    async def run(self, call: Callable[[], T]) -> T:
        """`call`'s result, from a thread. Raises Overloaded at once when too many are there already."""
        with self._lock:
            self._refuse_when_full()
            self._n += 1
        future = self._pool.submit(call)
        # By the thread's own end, not by the request's: a cancelled request still holds its thread.
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def _refuse_when_full(self) -> None:
        if self._n >= self._max_concurrent:
            raise Overloaded("too many requests are in work or waiting; try again in a second")

    def close(self) -> None:
        """Wait for what is in work; nothing more is taken."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._n -= 1
