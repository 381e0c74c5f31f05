"""A cap on what comes over one connection, below HTTP.

The cap on a body says nothing of what is no body: a server may send interim answers (`100 Continue`) or the padding of
chunks without end, and an HTTP library holds or parses them all. So the bytes are counted where they arrive.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import MutableMapping
from typing import Any

from aiohttp import ClientResponse
from aiohttp.connector import Connection

HEAD_BYTES = 512 * 1024  # TLS's handshake, the headers, and what of the body arrives together with them


class MeteredSocket(socket.socket):
    """A socket that reads `allowance` bytes and no more, but for those that arrive with the last of them."""

    allowance = HEAD_BYTES

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self._count(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        n_bytes = super().recv_into(*args)
        self._count(n_bytes)
        return n_bytes

    def _count(self, n_bytes: int) -> None:
        self.allowance -= n_bytes
        if self.allowance < 0:
            raise OSError(errno.EMSGSIZE, "more bytes than an answer may take")


def metered_response(sockets: MutableMapping[int, MeteredSocket], body_bytes: int) -> type[ClientResponse]:
    """aiohttp's response that grants each answer `HEAD_BYTES` until its headers are there, then `body_bytes` more.

    Args:
        sockets: those in use, by file descriptor.
    """

    class MeteredResponse(ClientResponse):
        async def start(self, connection: Connection) -> ClientResponse:
            transport = connection.transport
            wrapped = transport.get_extra_info("socket") if transport else None
            metered = sockets.get(wrapped.fileno()) if wrapped else None
            if metered is not None:
                metered.allowance = HEAD_BYTES
            response = await super().start(connection)
            if metered is not None:
                metered.allowance += body_bytes
            return response

    return MeteredResponse
