"""A small proxy before a server, which spoils the answers as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

Fault = Literal["none", "hole", "reset", "truncate", "say"]


class FaultProxy:
    """Forwards to a server on loopback, in the event loop of the test.

    Attributes:
        fault: none; hole = takes everything and answers nothing; reset = ends the connection in the middle of an
            answer; truncate = half of an answer, then silence; say = answers each command with `line` instead.
        line: what `say` answers.
        delay_s: how long each part of an answer is held back.
        n_connections: taken so far.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.fault: Fault = "none"
        self.line = b"-LOADING Redis is loading the dataset in memory\r\n"
        self.delay_s: Callable[[], float] = lambda: 0.0
        self.n_connections = 0
        self.port = 0

    async def listen(self, host: str = "127.0.0.1") -> None:
        """Take connections (again, on the same port)."""
        self._server = await asyncio.start_server(self._serve, host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def listen_on(self, unix_path: str) -> None:
        """Take connections on a unix socket."""
        self._server = await asyncio.start_unix_server(self._serve, unix_path)

    async def refuse(self) -> None:
        """End all connections and take no more."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._writers |= {writer, to_server}
        try:
            await asyncio.gather(self._forward(reader, to_server, writer), self._spoil(from_server, writer))
        except OSError:
            pass
        finally:
            for each in (writer, to_server):
                each.transport.abort()
                self._writers.discard(each)

    async def _forward(
        self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            if self.fault == "say":
                back.write(self.line * data.count(b"*"))
            elif self.fault != "hole":
                to_server.write(data)
        to_server.close()

    async def _spoil(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await from_server.read(65536):
            await asyncio.sleep(self.delay_s())
            if self.fault in ("reset", "truncate"):
                writer.write(data[: len(data) // 2])
                await writer.drain()
            if self.fault == "reset":
                writer.transport.abort()
                return
            if self.fault == "none":
                writer.write(data)
        writer.close()


@asynccontextmanager
async def fault_proxy(port: int) -> AsyncIterator[FaultProxy]:
    """A proxy that listens before the server on `port`."""
    proxy = FaultProxy(port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.refuse()
