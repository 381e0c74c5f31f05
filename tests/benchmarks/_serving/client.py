"""Connections over plain sockets: prepared bytes out, as little parsing in as a reply allows, no pipelining; and what
came of a load (`loops`)."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
import uvloop
from numpy.typing import NDArray

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
