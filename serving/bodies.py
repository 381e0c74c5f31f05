"""Bytes in and out: bodies read with their limit held while they arrive, replies encoded once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import TooLarge

MAX_DISCARDED_BYTES = 64 << 20
ENCODER = msgspec.json.Encoder()


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body.

    A body must say that it is JSON: a page in somebody's browser cannot send that to another host unasked, so a
    service on loopback without a key is safe from it.

    Raises:
        TooLarge: as soon as more than `max_bytes` are announced or have come.
        HTTPException: 415, not `application/json`, or compressed.
    """
    _require_json(request.headers)
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:18]) > max_bytes:
        await _let_finish(request)
        raise _too_large(max_bytes)
    parts = []
    n_bytes = 0
    stream = request.stream()
    async for part in stream:
        n_bytes += len(part)
        if n_bytes > max_bytes:
            await _discard(stream)
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


async def _let_finish(request: Request) -> None:
    """Discard a body, unless its sender waits to be asked for it."""
    if "expect" not in request.headers:
        await _discard(request.stream())


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
