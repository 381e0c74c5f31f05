"""A TCP proxy on loopback that hands on every piece a little later, in both directions.

Each connection's pieces keep their order. When one side leaves, the other is cut at once, as a broken network does.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

HOST = "127.0.0.1"
PIECE_BYTES = 1 << 16


class DelayingProxy:
    """An asynchronous context manager.

    Attributes:
        port: where it listens.
    """

    def __init__(self, upstream_port: int, *, most_s: float, seed: int) -> None:
        """Each piece waits a random time up to `most_s`."""
        self._upstream_port, self._most_s, self._random = upstream_port, most_s, random.Random(seed)
        self._server: asyncio.Server | None = None
        self._links: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> DelayingProxy:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._link(reader, writer)
        finally:
            self._links.discard(task)
            writer.transport.abort()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._upstream_port)
        there = asyncio.create_task(self._hand_on(reader, upstream_writer))
        back = asyncio.create_task(self._hand_on(upstream_reader, writer))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in (there, back):
                direction.cancel()
            upstream_writer.transport.abort()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await asyncio.sleep(self._random.random() * self._most_s)
            writer.write(piece)
            await writer.drain()
