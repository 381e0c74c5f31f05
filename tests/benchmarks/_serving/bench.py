"""The servers of one run, started when they are first asked for, over one Redis; and how long and hard to measure."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from recsys.storage.redis_server import PrivateRedis
from tests.benchmarks._serving.processes import Cores, Server, free_port
from tests.benchmarks._serving.world import LIMIT, PATH, World, item_id, user_id

OURS, CACHE_OFF, TEXTBOOK, TUNED, NULL = "ours", "ours, cache off", "textbook", "tuned", "null"
PEERS = (TEXTBOOK, TUNED, NULL)
START_S = 120.0
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        seconds, open_seconds: of each closed and each open loop of a round.
        users: how many users the load of `latency` and `overload` asks for; fewer than the cache holds vectors.
        moderate, saturating: requests under way for CPU a request, and for requests a second; fewer than the service
            takes at a time, so that none is turned away.
        calls: of each bare part in a round.
        soak_clients: fewer than the service takes at a time, with what those who left have still under way.
        soak_first, soak_parts: requests before memory is first looked at, and how often it is until the end.
        settle_s: how long the server is left alone before its memory and descriptors are looked at.
    """

    rounds: int = 5
    seconds: float = 4.0
    open_seconds: float = 8.0
    users: int = 2_000
    moderate: int = 4
    saturating: int = 16
    connections: int = 256
    calls: int = 400
    overload_seconds: float = 60.0
    soak_requests: int = 1_000_000
    soak_first: int = 100_000
    soak_clients: int = 20
    soak_parts: int = 9
    settle_s: float = 1.5
    cold_starts: int = 5


SMOKE_EFFORT = Effort(
    rounds=1,
    seconds=0.3,
    open_seconds=0.5,
    users=50,
    saturating=8,
    connections=128,
    calls=20,
    overload_seconds=0.7,
    soak_requests=600,
    soak_first=200,
    soak_clients=10,
    soak_parts=1,
    settle_s=0.3,
    cold_starts=1,
)


class Bench:
    """A context manager; at its end every process that it started has ended.

    Attributes:
        launched: names of the servers that were started at least once: their files are in the page cache.
    """

    def __init__(self, world: World, effort: Effort, cores: Cores) -> None:
        self.world, self.effort, self.cores = world, effort, cores
        self._servers: dict[str, Server] = {}
        self._kept: dict[Any, Any] = {}
        self._at_end = ExitStack()
        self.launched: set[str] = set()
        self._folder = TemporaryDirectory(prefix="bench-serving-")
        self.folder = Path(self._folder.name)
        redis_folder = self.folder / "redis"
        redis_folder.mkdir()
        shutil.copyfile(world.folder / "redis" / "dump.rdb", redis_folder / "dump.rdb")
        self.redis = PrivateRedis(redis_folder)

    def __enter__(self) -> Bench:
        # From here on this process, Redis (its child) and the client live on one core, the server on the other.
        os.sched_setaffinity(0, {self.cores.client})
        self.redis.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._at_end.close()
        self.stop_all()
        self.redis.stop()
        self._folder.cleanup()

    def server(self, name: str) -> Server:
        """The running server of that name, started and asked once where it is not there yet."""
        if name not in self._servers:
            self._servers[name] = self.launch(name)
        server = self._servers[name]
        server.wait_ready(START_S)
        return server

    def servers(self, names: tuple[str, ...]) -> dict[str, Server]:
        """All of these; those that are missing start side by side."""
        for name in names:
            if name not in self._servers:
                self._servers[name] = self.launch(name)
        return {name: self.server(name) for name in names}

    def launch(self, name: str) -> Server:
        """A new process, not awaited; whoever calls this stops it."""
        port = free_port()
        self.launched.add(name)
        log = self.folder / f"{name.replace(', ', '-').replace(' ', '-')}.log"
        if name in PEERS:
            arguments = ["tests.benchmarks._serving.peer", name, str(self.world.folder / "peers"), self.redis.url]
            command = [sys.executable, "-m", *arguments, str(port)]
        else:
            workspace = self.world.workspace(query_cache=name == OURS)
            command = [sys.executable, "-m", "serving", "--workspace", str(workspace)]
            command += ["--port", str(port), "--store", self.redis.url]
        return Server(name, command, port=port, core=self.cores.server, log=log)

    def keep(self, kind: Callable[[Bench], Kept]) -> Kept:
        """The one `kind(self)` of this run, a context manager that is left at the end."""
        if kind not in self._kept:
            self._kept[kind] = self._at_end.enter_context(cast(AbstractContextManager[Any], kind(self)))
        kept: Kept = self._kept[kind]
        return kept

    def stop(self, name: str) -> None:
        server = self._servers.pop(name, None)
        if server is not None:
            server.stop()

    def stop_all(self) -> None:
        for name in list(self._servers):
            self.stop(name)


def ask(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    """One reply. Raises RuntimeError unless it is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", PATH, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        data = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise RuntimeError(f"{server.name} answers {reply.status}: {data[:500]!r}; its log ends: {server.log_tail()}")
    answer: dict[str, Any] = json.loads(data)
    return answer


def require_right(server: Server, world: World) -> None:
    """Raises RuntimeError unless it recommends 20 items, none of them seen, to a few users."""
    for user in world.asked_users(5):
        items = [item["item_id"] for item in ask(server, {"user_id": user_id(user), "limit": LIMIT})["items"]]
        seen = {item_id(row) for row in world.histories[user].tolist()}
        if len(set(items)) != LIMIT or seen & set(items):
            raise RuntimeError(f"{server.name} does not do the work: user {user} is given {items}")


def say(what: str) -> None:
    """Progress, beside the table."""
    print(f"  {what}", file=sys.stderr, flush=True)
