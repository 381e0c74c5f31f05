"""A web server on loopback that behaves as badly as it is told to, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ssl import SSLContext

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from embeddings.sources.loop_thread import LoopThread

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Website:
    """Serves the handlers put into `pages`, by path, until it is closed.

    Attributes:
        asked: the path of every request, in order.
        headers: of the last request.
        busiest: the most requests that were in work at once.
        connections: how many were accepted, whatever came over them.
    """

    def __init__(self, address: str = "127.0.0.1", *, port: int = 0, tls: SSLContext | None = None) -> None:
        self.pages: dict[str, Handler] = {}
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.busiest = 0
        self.connections = 0
        self._busy = 0
        self._scheme = "https" if tls else "http"
        self.address = address
        self._loop = LoopThread("website")
        self._closed = False
        self.port = self._loop.run(self._start(address, port, tls))

    def url(self, path: str, host: str | None = None) -> str:
        return f"{self._scheme}://{host or self.address}:{self.port}{path}"

    def page(self, path: str, handler: Handler) -> str:
        self.pages[path] = handler
        return self.url(path)

    def content(self, path: str, body: bytes, **headers: str) -> str:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=body, headers=headers)

        return self.page(path, handler)

    def answers(self, path: str, *statuses: int, body: bytes = b"at last", **headers: str) -> str:
        """Each status once, with `headers` but for 200; the last for ever."""
        left = list(statuses)

        async def handler(request: web.Request) -> web.Response:
            status = left.pop(0) if len(left) > 1 else left[0]
            return web.Response(status=status, body=body, headers={} if status == 200 else _dashed(headers))

        return self.page(path, handler)

    def redirects(self, path: str, target: str, status: int = 302) -> str:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": target})

        return self.page(path, handler)

    def raw(self, path: str, *pieces: bytes, endless: bool = False, pause_s: float = 0.0) -> str:
        """Bytes as they are, headers included, then the end of the connection (or the last piece for ever)."""

        async def handler(request: web.Request) -> web.Response:
            transport = request.transport
            assert transport is not None
            for piece in pieces:
                transport.write(piece)
                await asyncio.sleep(pause_s)
            while endless and not transport.is_closing():
                transport.write(pieces[-1])
                await asyncio.sleep(pause_s)
            transport.close()
            return web.Response()

        return self.page(path, handler)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.run(self._runner.cleanup())
            self._loop.close()

    async def _start(self, address: str, port: int, tls: SSLContext | None) -> int:
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)  # type: ignore[arg-type]
        await self._runner.setup()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = _Counting(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.website = self
        listening.bind((address, port))
        await web.SockSite(self._runner, listening, ssl_context=tls).start()
        return int(listening.getsockname()[1])

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers = dict(request.headers)
        self._busy += 1
        self.busiest = max(self.busiest, self._busy)
        try:
            handler = self.pages.get(request.path)
            return await handler(request) if handler else web.Response(status=404)  # type: ignore[arg-type]
        finally:
            self._busy -= 1


class Names(AbstractResolver):
    """Says what a test wants: each name's addresses one after the other, the last for ever; `any` is any other name."""

    def __init__(self, **addresses: Sequence[str]) -> None:
        self._addresses = {name: list(each) for name, each in addresses.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self._addresses.get(host.rstrip("."), self._addresses.get("any", []))
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [resolved(host, each, port) for each in address.split()]

    async def close(self) -> None:
        pass


def resolved(host: str, address: str, port: int) -> ResolveResult:
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=kind, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )


class _Counting(socket.socket):
    website: Website

    def accept(self) -> tuple[socket.socket, object]:
        accepted = super().accept()
        self.website.connections += 1
        return accepted


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
