"""Bytes in and out: bodies read with their limit held while they arrive, replies encoded once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import TooLarge

MAX_DISCARDED_BYTES = 64 << 20
# How long a body may take: this, and a second more for each so many bytes that have come.
BODY_S = 10.0
BODY_BYTES_A_S = 16 << 10
ENCODER = msgspec.json.Encoder()


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    A body must say that it is JSON: a page in somebody's browser cannot send that to another host unasked, so a
    service on loopback without a key is safe from it.

    Raises:
        TooLarge: as soon as more than `max_bytes` are announced or have come.
        HTTPException: 415, not `application/json`, or compressed; 408, it does not come.
    """
    _require_json(request.headers)
    stream = _timely(request.stream())
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:18]) > max_bytes:
        if "expect" not in request.headers:  # else its sender waits to be asked for it
            await _discard(stream)
        raise _too_large(max_bytes)
    parts = []
    n_bytes = 0
    async for part in stream:
        n_bytes += len(part)
        if n_bytes > max_bytes:
            await _discard(stream)
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


async def _timely(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same parts. Raises HTTPException 408 when they come too slowly: a sender that falls silent would hold its
    connection for ever."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + BODY_S
    while True:
        try:
            async with asyncio.timeout_at(give_up_at):
                part = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, "the body did not come in time; send it again", {"Connection": "close"}) from None
        give_up_at += len(part) / BODY_BYTES_A_S
        yield part


async def _discard(stream: AsyncIterator[bytes]) -> None:
    """Take the rest of a body that is refused: most clients look at the reply only after they have sent everything,
    and would else see a broken connection. What is far too large is cut off."""
    n_bytes = 0
    async for part in stream:
        n_bytes += len(part)
        if n_bytes > MAX_DISCARDED_BYTES:
            return


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` (a msgspec struct) as JSON; numbers that are not finite become null, never NaN."""
    return Response(ENCODER.encode(value), status, dict(headers or {}), "application/json")


def _require_json(headers: Mapping[str, str]) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "send the header Content-Type: application/json")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "compressed bodies are not taken; send the JSON as it is")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes} bytes; send it in several requests")
