"""What went over the wire between a client and the service."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx

Exchange = tuple[httpx.Request, httpx.Response]


@dataclass
class Recorded(httpx.BaseTransport):
    """The network, noted."""

    exchanges: list[Exchange] = field(default_factory=list)
    network: httpx.HTTPTransport = field(default_factory=httpx.HTTPTransport)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.network.handle_request(request)
        response.read()
        self.exchanges.append((request, response))
        return response

    def close(self) -> None:
        self.network.close()


@dataclass
class AsyncRecorded(httpx.AsyncBaseTransport):
    """An application in this process, noted."""

    app: httpx.ASGITransport
    exchanges: list[Exchange] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.app.handle_async_request(request)
        await response.aread()
        self.exchanges.append((request, response))
        return response
