"""Two kinds of load.

`closed_loop` keeps so many requests under way. `open_loop` sends at times drawn before (a Poisson process), whatever
the server does, and counts a request's time from when it should have been sent: a server that stalls is charged for all
who wait (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from tests.benchmarks._serving.client import GIVE_UP_S, UNDEGRADED, Connection, Load
from tests.benchmarks._serving.timer import PreciseTimer

LONGEST_S = 3600.0
ACCEPTED_S = 0.25
"""For the server to take the connections of an open loop before its clock starts."""


async def closed_loop(
    port: int, requests: Sequence[bytes], *, concurrency: int, seconds: float = 0.0, count: int = 0
) -> Load:
    """`concurrency` connections, each asking again as soon as it is answered, for `seconds` or `count` requests."""
    return await _ClosedLoop(port, requests, seconds or LONGEST_S, count).run(concurrency)


class _ClosedLoop:
    def __init__(self, port: int, requests: Sequence[bytes], seconds: float, count: int) -> None:
        self._port, self._requests, self._seconds, self._count = port, requests, seconds, count
        self._load = Load()
        self._latencies: list[float] = []
        self._under_way = 0
        self._ends_at = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, concurrency: int) -> Load:
        load = self._load
        connections = [await Connection.to(self._port, self._answered, self._broken) for _ in range(concurrency)]
        started, cpu = time.monotonic(), time.process_time()
        self._ends_at = started + self._seconds
        for connection in connections:
            self._ask(connection)
        try:
            await asyncio.wait_for(self._done, self._seconds + GIVE_UP_S)
        except TimeoutError:
            load.unanswered = self._under_way
        load.wall_s, load.client_cpu_s = time.monotonic() - started, time.process_time() - cpu
        load.latencies_s = np.array(self._latencies)
        for connection in connections:
            connection.abort()
        return load

    def _ask(self, connection: Connection) -> None:
        load, now = self._load, time.monotonic()
        if (self._count and load.n_sent >= self._count) or now >= self._ends_at or not connection.is_open:
            if not self._under_way and not self._done.done():
                self._done.set_result(None)
            return
        connection.started_s = now
        self._under_way += 1
        connection.send(self._requests[load.n_sent % len(self._requests)])
        load.n_sent += 1

    def _answered(self, connection: Connection, status: int, reply: bytes) -> None:
        load = self._load
        self._latencies.append(time.monotonic() - connection.started_s)
        self._under_way -= 1
        load.statuses[status] += 1
        load.n_ok += status == 200
        load.undegraded += status == 200 and UNDEGRADED in reply
        self._ask(connection)

    def _broken(self, connection: Connection) -> None:
        self._load.broken += 1
        self._under_way -= 1
        self._ask(connection)


async def open_loop(
    port: int,
    requests: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    connections: int,
    seed: int,
    watch: Callable[[float, int, bytes], None] | None = None,
    each_second: Callable[[], None] | None = None,
) -> Load:
    """Requests at Poisson times, `rate` a second on average, over so many connections.

    Args:
        watch: called for each reply with its intended time (seconds from the start), its status and itself; status 0
            for a connection that broke.
        each_second: called while the load runs.
    """
    return await _OpenLoop(port, requests, rate, seconds, seed, watch).run(connections, each_second)


class _OpenLoop:
    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        rate: float,
        seconds: float,
        seed: int,
        watch: Callable[[float, int, bytes], None] | None,
    ) -> None:
        rng = np.random.default_rng(seed)
        gaps = rng.exponential(1 / rate, int(rate * seconds * 1.2) + 100)
        arrivals = np.cumsum(gaps)
        self._arrivals: list[float] = arrivals[arrivals < seconds].tolist()
        self._port, self._requests, self._seconds, self._watch = port, requests, seconds, watch
        self._load = Load()
        self._next = self._under_way = 0
        self._start = 0.0
        self._latencies: list[float] = []
        self._lags: list[float] = []
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()
        self._all: set[Connection] = set()
        self._reopening: set[asyncio.Task[None]] = set()

    async def run(self, connections: int, each_second: Callable[[], None] | None) -> Load:
        for _ in range(connections):
            await self._open()
        await asyncio.sleep(ACCEPTED_S)
        timer = PreciseTimer(lambda: self._send_due(timer))
        self._start = time.monotonic() + 0.005
        cpu = time.process_time()
        if self._arrivals:
            timer.arm(self._start + self._arrivals[0])
        ends_at = self._start + self._seconds
        try:
            while (left := ends_at - time.monotonic()) > 0:
                await asyncio.sleep(min(1.0, left))
                if each_second is not None:
                    each_second()
            self._load.wall_s = time.monotonic() - self._start
            self._load.client_cpu_s = time.process_time() - cpu
            give_up_at = time.monotonic() + GIVE_UP_S
            while (self._under_way or self._waiting) and time.monotonic() < give_up_at:
                await asyncio.sleep(0.01)
        finally:
            timer.close()
        return self._finished()

    def _finished(self) -> Load:
        load = self._load
        load.unanswered = self._under_way
        load.n_due = len(self._arrivals)
        load.unsent += len(self._waiting) + load.n_due - self._next
        load.latencies_s, load.lags_s = np.array(self._latencies), np.array(self._lags)
        for task in self._reopening:
            task.cancel()
        for connection in self._all:
            connection.abort()
        return load

    async def _open(self) -> None:
        connection = await Connection.to(self._port, self._answered, self._broken)
        self._all.add(connection)
        self._free(connection)

    def _send_due(self, timer: PreciseTimer) -> None:
        arrivals, n = self._arrivals, len(self._arrivals)
        now = time.monotonic() - self._start
        while self._next < n and arrivals[self._next] <= now:
            number = self._next
            self._next += 1
            self._lags.append(now - arrivals[number])
            if self._idle and not self._waiting:
                self._send(self._idle.pop(), number)
            else:
                self._waiting.append(number)
        if self._next < n:
            timer.arm(self._start + arrivals[self._next])

    def _send(self, connection: Connection, number: int) -> None:
        if not connection.is_open:
            self._waiting.appendleft(number)
            self._reopen(connection)
            return
        connection.started_s = self._arrivals[number]
        self._load.n_sent += 1
        self._under_way += 1
        connection.send(self._requests[number % len(self._requests)])

    def _free(self, connection: Connection) -> None:
        now = time.monotonic() - self._start
        while self._waiting:
            number = self._waiting.popleft()
            if now - self._arrivals[number] <= GIVE_UP_S:
                self._send(connection, number)
                return
            self._load.unsent += 1
        self._idle.append(connection)

    def _answered(self, connection: Connection, status: int, reply: bytes) -> None:
        self._under_way -= 1
        self._load.statuses[status] += 1
        if status == 200:
            latency_s = time.monotonic() - self._start - connection.started_s
            is_undegraded = UNDEGRADED in reply
            self._latencies.append(latency_s)
            self._load.undegraded += is_undegraded
            if latency_s <= GIVE_UP_S and not self._load.wall_s:
                self._load.n_ok += 1
                self._load.n_good += is_undegraded
        if self._watch is not None:
            self._watch(connection.started_s, status, reply)
        self._free(connection)

    def _broken(self, connection: Connection) -> None:
        self._under_way -= 1
        self._load.broken += 1
        if self._watch is not None:
            self._watch(connection.started_s, 0, b"")
        self._reopen(connection)

    def _reopen(self, connection: Connection) -> None:
        self._all.discard(connection)
        task = asyncio.get_running_loop().create_task(self._open_again())
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    async def _open_again(self) -> None:
        for _ in range(100):
            try:
                await self._open()
                return
            except OSError:
                await asyncio.sleep(0.02)
