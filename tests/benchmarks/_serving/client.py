"""Load over plain sockets: prepared bytes out, as little parsing in as a reply allows, no pipelining.

`closed_loop` keeps so many requests under way. `open_loop` sends at times drawn before (a Poisson process), whatever
the server does, and counts a request's time from when it should have been sent: a server that stalls is charged for all
who wait (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import uvloop
from numpy.typing import NDArray

from tests.benchmarks._serving.timer import PreciseTimer

HOST = "127.0.0.1"
END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"
UNDEGRADED = b'"degraded":[]'
GIVE_UP_S = 1.0
"""A request that could not be sent for so long, for want of a free connection, is given up; and so is what is not
answered so long after the last one was sent."""

T = TypeVar("T")


@dataclass
class Load:
    """What came of a load. Times in seconds.

    Attributes:
        statuses: replies by HTTP status.
        undegraded: replies 200 that did not say they were degraded.
        n_ok, n_good: replies 200, and of them the undegraded ones, that came while the load ran, none later than
            `GIVE_UP_S` after its intended time.
        n_due, n_sent: requests that were to be sent (open loop), and that were.
        broken: connections that ended before their reply did.
        unsent, unanswered: requests given up, before and after they were sent.
        latencies_s: float64, of the replies 200, from the intended time of sending (open loop) or from sending.
        lags_s: float64, how much later than intended the client turned to a request (open loop).
        client_cpu_s: of this process.
    """

    wall_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    undegraded: int = 0
    n_ok: int = 0
    n_good: int = 0
    n_due: int = 0
    n_sent: int = 0
    broken: int = 0
    unsent: int = 0
    unanswered: int = 0
    latencies_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    lags_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    client_cpu_s: float = 0.0

    @property
    def replies(self) -> int:
        return sum(self.statuses.values())

    @property
    def rate(self) -> float:
        """Replies 200 a second, in time."""
        return self.n_ok / self.wall_s

    @property
    def good_rate(self) -> float:
        """Undegraded replies a second, in time."""
        return self.n_good / self.wall_s

    @property
    def client_share(self) -> float:
        """Of one core, taken by this client."""
        return self.client_cpu_s / self.wall_s

    def quantile_ms(self, quantile: float) -> float:
        """Of the latencies; NaN where nothing was answered."""
        return 1e3 * float(np.quantile(self.latencies_s, quantile)) if len(self.latencies_s) else float("nan")

    @property
    def lag_p99_ms(self) -> float:
        return 1e3 * float(np.quantile(self.lags_s, 0.99)) if len(self.lags_s) else 0.0


class Connection(asyncio.Protocol):
    """One connection with at most one request under way.

    Attributes:
        started_s: the time its request is counted from; free for its owner to use.
        is_open: False from the loss of the connection on.
    """

    def __init__(
        self,
        on_reply: Callable[[Connection, int, bytes], None],
        on_broken: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        """`on_reply(connection, status, whole reply)`; `on_broken` when it ends with a request under way."""
        self._on_reply, self._on_broken = on_reply, on_broken
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._is_asking = False
        self.started_s = 0.0
        self.is_open = False

    @staticmethod
    async def to(port: int, *callbacks: Any) -> Connection:
        """Raises OSError when nobody listens there."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(*callbacks), HOST, port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own does not derive from it
        self.is_open = True

    def send(self, request: bytes) -> None:
        assert self._transport is not None
        self._is_asking = True
        self._transport.write(request)

    def abort(self) -> None:
        """End it at once, whatever is under way, and without a word to its owner."""
        self._is_asking = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(END_OF_HEAD)
        if end < 0:
            self._buffer = data
            return
        at = data.find(LENGTH, 0, end)
        if at < 0:
            at = data[:end].lower().index(LENGTH)
        total = end + len(END_OF_HEAD) + int(data[at + len(LENGTH) : data.index(b"\r", at)])
        if len(data) < total:
            self._buffer = data
            return
        self._buffer = b""
        self._is_asking = False
        self._on_reply(self, int(data[9:12]), data)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._is_asking:
            self._is_asking = False
            self._on_broken(self)


def run(load: Coroutine[Any, Any, T]) -> T:
    """Run it on a fresh uvloop, without garbage collections in between."""
    with quiet_memory():
        return uvloop.run(load)


@contextmanager
def quiet_memory() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def closed_loop(
    port: int, requests: Sequence[bytes], *, concurrency: int, seconds: float = 0.0, count: int = 0
) -> Load:
    """`concurrency` connections, each asking again as soon as it is answered, for `seconds` or `count` requests."""
    load, latencies = Load(), []
    done = asyncio.get_running_loop().create_future()
    state = {"sent": 0, "under way": 0}
    clock = time.monotonic
    give_up_at = clock() + (seconds or 3600.0)

    def ask(connection: Connection) -> None:
        now = clock()
        if (count and state["sent"] >= count) or now >= give_up_at or not connection.is_open:
            if not state["under way"] and not done.done():
                done.set_result(None)
            return
        connection.started_s = now
        number = state["sent"]
        state["sent"] += 1
        state["under way"] += 1
        connection.send(requests[number % len(requests)])

    def answered(connection: Connection, status: int, reply: bytes) -> None:
        latencies.append(clock() - connection.started_s)
        state["under way"] -= 1
        load.statuses[status] += 1
        load.n_ok += status == 200
        load.undegraded += status == 200 and UNDEGRADED in reply
        ask(connection)

    def broken(connection: Connection) -> None:
        load.broken += 1
        state["under way"] -= 1
        ask(connection)

    connections = [await Connection.to(port, answered, broken) for _ in range(concurrency)]
    started, cpu = clock(), time.process_time()
    for connection in connections:
        ask(connection)
    try:
        await asyncio.wait_for(done, (seconds or 3600.0) + GIVE_UP_S)
    except TimeoutError:
        load.unanswered = state["under way"]
    load.wall_s, load.client_cpu_s = clock() - started, time.process_time() - cpu
    load.latencies_s = np.array(latencies)
    for connection in connections:
        connection.abort()
    return load


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
