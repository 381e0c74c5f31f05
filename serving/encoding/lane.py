"""One thread and the calls that wait for it, in order; those whose time has passed are dropped before they are run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from recsys.errors import Overloaded

T = TypeVar("T")
NEWEST = 0.2
"""Weight of the newest measurement in the moving average of how long a kind of call takes."""


@dataclass(eq=False, slots=True)
class _Job:
    kind: str
    deadline_s: float
    call: Callable[[], Any]
    answer: asyncio.Future[Any]


class Lane:
    """Belongs to one event loop. How many may wait is its user's business.

    Attributes:
        n_dropped: calls whose time had passed before their turn.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._clock = clock
        self._waiting: deque[_Job] = deque()
        self._running: str | None = None
        self._worker: asyncio.Task[None] | None = None
        self._took_s: dict[str, float] = {}
        self.n_dropped = 0

    @property
    def expected_wait_s(self) -> float:
        """How long a call that comes now will wait for its turn; what runs already counts whole."""
        ahead = [job.kind for job in self._waiting if not job.answer.done()]
        if self._running is not None:
            ahead.append(self._running)
        return sum(self._took_s.get(kind, 0.0) for kind in ahead)

    async def run(self, kind: str, deadline_s: float, call: Callable[[], T]) -> T:
        """`call`'s result, from the thread. A caller that is cancelled takes its call out of the queue.

        Raises:
            Overloaded: `deadline_s`, on the lane's clock, passed before its turn.
        """
        job = _Job(kind, deadline_s, call, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            result: T = await job.answer
        except asyncio.CancelledError:
            if job in self._waiting:
                self._waiting.remove(job)
            raise
        return result

    async def close(self) -> None:
        """Take nothing more, and wait for the call that runs."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.answer.cancel()
        if self._worker is not None:
            await asyncio.wait({self._worker})
        self._pool.shutdown(wait=False)

    async def _work(self) -> None:
        while self._waiting:
            job = self._waiting.popleft()
            if job.answer.done():
                continue
            started_s = self._clock()
            if started_s >= job.deadline_s:
                self.n_dropped += 1
                job.answer.set_exception(Overloaded("its time passed before its turn; try again in a second"))
                continue
            self._running = job.kind
            try:
                result = await asyncio.get_running_loop().run_in_executor(self._pool, job.call)
            except Exception as error:  # whatever it is, it is the caller's, and the next one's turn comes
                if not job.answer.done():
                    job.answer.set_exception(error)
            else:
                if not job.answer.done():
                    job.answer.set_result(result)
            finally:
                self._running = None
                self._learn(job.kind, self._clock() - started_s)

    def _learn(self, kind: str, took_s: float) -> None:
        before_s = self._took_s.get(kind, took_s)
        self._took_s[kind] = before_s + NEWEST * (took_s - before_s)
