"""A real Redis behind a TCP proxy that fails when it is told to.

refuse      nobody listens, and who was connected is cut off
reset       half of each answer comes, then the connection is reset
truncated   half of each answer comes, then the connection ends as if all were well
black_hole  connections are taken, and nothing ever comes back
slow        each answer comes `SLOW_S` late
loading     every command is answered as a server does that still reads its data
readonly    the server itself is a replica (of nobody who answers): it reads, and refuses to write
oom         the server itself is over its memory limit: it reads, and refuses to grow

The last two are the server's own doing, by its own commands.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Literal

import redis

HOST = "127.0.0.1"
PIECE_BYTES = 1 << 16
SLOW_S = 0.2
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
QUIET_S = 1.0
DEAD_PORT = "1"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Fault = Literal["none", "refuse", "reset", "truncated", "black_hole", "slow", "loading", "readonly", "oom"]
FAULTS: tuple[Fault, ...] = ("refuse", "reset", "truncated", "black_hole", "slow", "loading", "readonly", "oom")


def end_of(data: bytes | bytearray, at: int = 0) -> int:
    """Where the RESP value that begins at `at` ends; -1 when it is not whole yet."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return -1
    kind, after = data[at : at + 1], line + 2
    if kind in (b"$", b"=", b"!"):
        length = int(data[at + 1 : line])
        end = after if length < 0 else after + length + 2
        return end if end <= len(data) else -1
    if kind in (b"*", b"~", b">", b"%"):
        n_parts = max(int(data[at + 1 : line]), 0) * (2 if kind == b"%" else 1)
        for _ in range(n_parts):
            after = end_of(data, after)
            if after < 0:
                return -1
    return after


def taken(buffer: bytearray) -> int:
    """How many whole RESP values the buffer begins with; they are removed from it."""
    number = at = 0
    while at < len(buffer) and (end := end_of(buffer, at)) > 0:
        number, at = number + 1, end
    del buffer[:at]
    return number


class RedisFaults:
    """A context manager; its proxy runs in a thread of its own.

    Attributes:
        port: where the proxy listens, the same all along.
        fault: what is wrong now.
    """

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._admin = redis.Redis(host=HOST, port=upstream_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="redis-faults", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self.fault: Fault = "none"
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def __enter__(self) -> RedisFaults:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.set("none")
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._admin.close()

    def set(self, fault: Fault) -> None:
        """From now on this is wrong, and nothing else; "none" heals."""
        self._server_writes(fault)
        self._run(self._set(fault))

    def flush_all(self) -> None:
        """The server loses everything, scripts included."""
        self._admin.flushall()
        self._admin.script_flush()

    def _server_writes(self, fault: Fault) -> None:
        if fault == "readonly":
            self._admin.replicaof(HOST, DEAD_PORT)
        elif self.fault == "readonly":
            self._admin.replicaof("NO", "ONE")
        if "oom" in (fault, self.fault):
            self._admin.config_set("maxmemory", "1" if fault == "oom" else "0")

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _set(self, fault: Fault) -> None:
        before, self.fault = self.fault, fault
        if fault == "refuse":
            await self._close()
        elif before == "refuse":
            await self._listen()
        for link in list(self._links):
            if link.lost_something:  # what was swallowed never comes
                link.cut()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        try:
            with suppress(OSError):
                await link.run(self._upstream_port)
        finally:
            self._links.discard(link)
            link.cut()


class _Link:
    """One client's connection."""

    def __init__(self, faults: RedisFaults, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._faults, self._reader, self._writer = faults, reader, writer
        self._upstream: asyncio.StreamWriter | None = None
        self._n_awaited = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self.lost_something = False

    async def run(self, upstream_port: int) -> None:
        reader, self._upstream = await asyncio.open_connection(HOST, upstream_port)
        directions = {asyncio.create_task(self._commands()), asyncio.create_task(self._answers(reader))}
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)

    def cut(self) -> None:
        """Reset it, both ways."""
        connection = self._writer.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._writer.transport.abort()
        if self._upstream is not None:
            self._upstream.transport.abort()

    async def _commands(self) -> None:
        """Client to server; whole commands, so that each can be answered here instead."""
        assert self._upstream is not None
        buffer = bytearray()
        while piece := await self._reader.read(PIECE_BYTES):
            if self._faults.fault == "black_hole":
                self.lost_something = True
                continue
            buffer += piece
            while buffer and (end := end_of(buffer)) > 0:
                command = bytes(buffer[:end])
                del buffer[:end]
                if self._faults.fault == "loading":
                    await asyncio.wait_for(self._is_quiet.wait(), QUIET_S)  # answers keep the order of commands
                    self._writer.write(LOADING)
                else:
                    self._n_awaited += 1
                    self._is_quiet.clear()
                    self._upstream.write(command)
            await self._upstream.drain()

    async def _answers(self, reader: asyncio.StreamReader) -> None:
        """Server to client, with whatever is wrong now."""
        buffer = bytearray()
        while piece := await reader.read(PIECE_BYTES):
            fault = self._faults.fault
            if fault == "black_hole":
                self.lost_something = True
                continue
            if fault == "slow":
                await asyncio.sleep(SLOW_S)
            if fault in ("reset", "truncated"):
                await self._half(piece, is_reset=fault == "reset")
                return
            self._writer.write(piece)
            await self._writer.drain()
            buffer += piece
            self._n_awaited = max(self._n_awaited - taken(buffer), 0)
            if not self._n_awaited:
                self._is_quiet.set()

    async def _half(self, piece: bytes, *, is_reset: bool) -> None:
        self._writer.write(piece[: max(len(piece) // 2, 1)])
        await self._writer.drain()
        if is_reset:
            self.cut()
        else:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
