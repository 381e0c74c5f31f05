"""Bytes in and out: bodies read with their limit held while they arrive, replies encoded once."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from recsys.errors import TooLarge
from serving.errors import in_our_words

MAX_DISCARDED_BYTES = 64 << 20
# How long a body may take: this, and a second more for each so many bytes that have come.
BODY_S = 10.0
BODY_BYTES_A_S = 16 << 10
ENCODER = msgspec.json.Encoder()
T = TypeVar("T")
JSON = ((b"content-type", b"application/json"),)


async def read_body(request: Request, max_bytes: int, media_type: bytes = b"application/json") -> bytes:
    """The whole body.

    A body must say that it is JSON: a page in somebody's browser cannot send that to another host unasked, so a
    service on loopback without a key is safe from it.

    Raises:
        TooLarge: as soon as more than `max_bytes` are announced or have come.
        HTTPException: 415, not of that media type, or compressed; 408, it does not come.
        ClientDisconnect: its sender has gone.
    """
    announced, waits = _require(request.scope["headers"], media_type)
    parts = _timely(request.receive)
    if announced > max_bytes:
        if not waits:  # else its sender waits to be asked for it
            await _discard(parts)
        raise _too_large(max_bytes)
    whole: list[bytes] = []
    n_bytes = 0
    async for part in parts:
        n_bytes += len(part)
        if n_bytes > max_bytes:
            await _discard(parts)
            raise _too_large(max_bytes)
        whole.append(part)
    return whole[0] if len(whole) == 1 else b"".join(whole)


def decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    """`data` as the decoder's type. Raises InvalidRequest with the field at fault."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise in_our_words(error) from None


async def _timely(receive: Receive) -> AsyncIterator[bytes]:
    """The parts of a body. Raises HTTPException 408 when they come too slowly: a sender that falls silent would hold
    its connection for ever."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + BODY_S
    more = True
    while more:
        try:
            # Most bodies are there already; a timer costs more than reading them.
            message, waiting = _at_once(receive())
            if waiting is not None:
                async with asyncio.timeout_at(give_up_at):
                    message = await waiting
        except TimeoutError:
            raise HTTPException(408, "the body did not come in time; send it again", {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        give_up_at += len(part) / BODY_BYTES_A_S
        yield part


def _at_once(coroutine: Any) -> tuple[Message, Awaitable[Message] | None]:
    """What a coroutine returns without waiting; else what there is to wait for."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration as done:
        return done.value, None
    return {}, _go_on(coroutine, waits_for)


@types.coroutine
def _go_on(coroutine: Any, waits_for: Any) -> Generator[Any, Any, Message]:
    """The rest of a coroutine that has begun to wait."""
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:
            step = partial(coroutine.throw, error)
        else:
            step = partial(coroutine.send, sent)
        try:
            waits_for = step()
        except StopIteration as done:
            message: Message = done.value
            return message


async def _discard(parts: AsyncIterator[bytes]) -> None:
    """Take the rest of a body that is refused: most clients look at the reply only after they have sent everything,
    and would else see a broken connection. What is far too large is cut off."""
    n_bytes = 0
    async for part in parts:
        n_bytes += len(part)
        if n_bytes > MAX_DISCARDED_BYTES:
            return


def _require(headers: Sequence[tuple[bytes, bytes]], media_type: bytes) -> tuple[int, bool]:
    """The bytes that are announced (0 where none are), and whether the sender waits to be asked for them."""
    announced, waits, given, encoding = 0, False, b"", b"identity"
    for name, value in headers:
        if name == b"content-type":
            given = value.partition(b";")[0].strip().lower()
        elif name == b"content-length":
            announced = int(value[:18]) if value.isdigit() else 0
        elif name == b"content-encoding":
            encoding = value.strip().lower()
        elif name == b"expect":
            waits = True
    if given != media_type:
        raise HTTPException(415, f"send the header Content-Type: {media_type.decode()}")
    if encoding != b"identity":
        raise HTTPException(415, "compressed bodies are not taken; send the body as it is")
    return announced, waits


class Reply:
    """A whole reply as ASGI sends it; an application of its own, as Starlette's are, at a tenth of the cost."""

    __slots__ = ("_start", "body", "status_code")

    def __init__(self, body: bytes, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = JSON) -> None:
        self.body = body
        self.status_code = status
        length = (b"content-length", b"%d" % len(body))
        self._start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self._start)
        await send({"type": "http.response.body", "body": self.body})


def json_reply(value: Any, status: int = 200) -> Reply:
    """`value` (a msgspec struct) as JSON; numbers that are not finite become null, never NaN."""
    return Reply(ENCODER.encode(value), status)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes} bytes; send it in several requests")
