"""Very many requests, a third of the clients leaving midway: memory, descriptors, and that nobody gets another's reply.

A reply is known by three things: the X-Request-Id that was sent, an id that no catalogue knows in `exclude_item_ids`,
which comes back in `missing_ids`, and that no item is in it which its user has seen.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from tests.benchmarks._serving.bench import OURS, Bench, say
from tests.benchmarks._serving.client import END_OF_HEAD, HOST, Connection, run
from tests.benchmarks._serving.world import LIMIT, World, item_id, request_bytes, user_id
from tests.benchmarks._table import Figure
from tests.worlds.delaying_proxy import DelayingProxy

CANCELLING_SHARE = 0.3
CANCELLED = 0.5
CANCELLED_WHOLE = 0.7
LONGEST_WAIT_S = 0.03
PROXY_DELAY_S = 0.01
REPLY_S = 10.0
UNEVEN = 4
"""Some ask often, most seldom: the busiest fifth sends two thirds, the others pass through the caches."""
RSS_BAR, DESCRIPTOR_BAR, NONE_BAR, REFUSED_BAR = "<= 8", "<= 0", "<= 0", "<= 0.001"


class _Item(msgspec.Struct):
    item_id: str


class _Reply(msgspec.Struct):
    items: tuple[_Item, ...]
    missing_ids: tuple[str, ...]


@dataclass
class Tally:
    """What came of the soak so far."""

    sent: int = 0
    right: int = 0
    cancelled: int = 0
    broken: int = 0
    refused: int = 0
    crossed: list[str] = field(default_factory=list)


class _Line:
    """A connection whose replies are awaited."""

    def __init__(self) -> None:
        self._connection = Connection(self._answered, self._broken)
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self.is_open = True

    @staticmethod
    async def to(port: int) -> _Line:
        line = _Line()
        await asyncio.get_running_loop().create_connection(lambda: line._connection, HOST, port)
        return line

    def send(self, request: bytes) -> None:
        """Without waiting for the reply; the line is then good for `cut` alone."""
        self._connection.send(request)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and whole reply. Raises ConnectionResetError when the connection ends first."""
        self._waiter = asyncio.get_running_loop().create_future()
        self._connection.send(request)
        return await self._waiter

    def cut(self) -> None:
        self.is_open = False
        self._connection.abort()

    def _answered(self, connection: Connection, status: int, reply: bytes) -> None:
        self.is_open = connection.is_open
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result((status, reply))

    def _broken(self, connection: Connection) -> None:
        self.is_open = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("the connection ended before its reply"))


class Soak:
    """The clients of one soak; `until(n)` goes on to n requests in all and closes every connection."""

    def __init__(self, port: int, world: World, clients: int, seed: int) -> None:
        self._port, self._clients, self._random = port, clients, random.Random(seed)
        self._seen = [frozenset(item_id(row) for row in rows) for rows in world.histories.tolist()]
        self._decoder = msgspec.json.Decoder(_Reply)
        self.tally = Tally()

    async def until(self, n_requests: int) -> None:
        n_cancelling = max(1, round(CANCELLING_SHARE * self._clients))
        async with DelayingProxy(self._port, most_s=PROXY_DELAY_S, seed=n_requests) as proxy:
            patient = [self._ask_on(self._port, n_requests, 0.0) for _ in range(self._clients - n_cancelling)]
            leaving = [self._ask_on(proxy.port, n_requests, CANCELLED) for _ in range(n_cancelling)]
            await asyncio.gather(*patient, *leaving)

    async def _ask_on(self, port: int, n_requests: int, cancelled: float) -> None:
        """One client: a request after the other, on one connection while it lasts."""
        line: _Line | None = None
        while self.tally.sent < n_requests:
            number = self.tally.sent
            self.tally.sent += 1
            user = int(len(self._seen) * self._random.random() ** UNEVEN)
            if line is None or not line.is_open:
                line = await _Line.to(port)
            if self._random.random() < cancelled:
                await self._leave_midway(line, _request(user, number))
                continue
            try:
                self._judge(user, number, *await asyncio.wait_for(line.ask(_request(user, number)), REPLY_S))
            except (ConnectionError, TimeoutError):
                self.tally.broken += 1
                line.cut()
        if line is not None:
            line.cut()

    async def _leave_midway(self, line: _Line, request: bytes) -> None:
        """A part of a request, or a whole one whose reply is not awaited; then the connection is cut."""
        self.tally.cancelled += 1
        is_whole = self._random.random() < CANCELLED_WHOLE
        line.send(request if is_whole else request[: self._random.randrange(1, len(request))])
        await asyncio.sleep(self._random.random() * LONGEST_WAIT_S)
        line.cut()

    def _judge(self, user: int, number: int, status: int, reply: bytes) -> None:
        head, _, body = reply.partition(END_OF_HEAD)
        if status != 200:
            self.tally.refused += 1
            return
        answer = self._decoder.decode(body)
        shown = {item.item_id for item in answer.items}
        is_mine = f"\r\nx-request-id: {_name(user, number)}\r\n".encode() in head.lower() + b"\r\n"
        if is_mine and answer.missing_ids == (_name(user, number),) and not shown & self._seen[user]:
            self.tally.right += 1
        else:
            self.tally.crossed.append(f"{_name(user, number)} was answered {reply[:300]!r}")


def _name(user: int, number: int) -> str:
    return f"marks-{user}-{number}"


def _request(user: int, number: int) -> bytes:
    name = _name(user, number)
    body: dict[str, object] = {"user_id": user_id(user), "limit": LIMIT, "exclude_item_ids": [name]}
    return request_bytes(body, ("X-Request-Id", name))


def soak_figures(bench: Bench) -> Iterator[Figure]:
    """A fresh process; memory and descriptors after the first part, and after all."""
    effort = bench.effort
    bench.stop_all()
    server = bench.server(OURS)
    soak = Soak(server.port, bench.world, effort.soak_clients, seed=1)
    resident: list[float] = []
    anonymous: list[float] = []
    descriptors: list[int] = []
    started = time.monotonic()
    for until in _checkpoints(effort.soak_first, effort.soak_requests, effort.soak_parts):
        run(soak.until(until))
        time.sleep(effort.settle_s)
        resident.append(server.rss_mib())
        anonymous.append(server.anonymous_mib())
        descriptors.append(server.n_descriptors())
        minutes = (time.monotonic() - started) / 60
        say(f"soak: {soak.tally.sent} requests in {minutes:.1f} min, {resident[-1]:.1f} MiB, {descriptors[-1]} open")
    tally = soak.tally
    note = f"{resident[0]:.1f} MiB after {effort.soak_first}, {resident[-1]:.1f} after {effort.soak_requests}"
    yield Figure("soak: growth of resident memory, MiB", resident[-1] - resident[0], RSS_BAR, note)
    note = "the rest of the growth is pages of the mapped release"
    yield Figure("soak: growth of memory that is no file's, MiB", anonymous[-1] - anonymous[0], "", note)
    note = f"{descriptors[0]} → {descriptors[-1]}"
    yield Figure("soak: growth of open descriptors", descriptors[-1] - descriptors[0], DESCRIPTOR_BAR, note)
    note = f"{tally.right} replies known as their own, {tally.cancelled} requests cut midway"
    yield Figure("soak: replies to somebody else", len(tally.crossed), NONE_BAR, (tally.crossed or [note])[0])
    yield Figure("soak: requests that broke or timed out", tally.broken, NONE_BAR)
    note = f"{tally.refused}: what those who left had under way still takes its place"
    yield Figure("soak: share of requests refused", tally.refused / max(tally.sent, 1), REFUSED_BAR, note)


def _checkpoints(first: int, last: int, parts: int) -> list[int]:
    """Where the soak pauses: after the first part, then evenly."""
    between = [first + (last - first) * part // parts for part in range(1, parts + 1)]
    return list(dict.fromkeys([first, *between]))
