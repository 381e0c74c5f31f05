"""What the workers and the encoder process say to each other: msgpack behind its length, on a unix socket.

    frame = length of the message, uint32 big-endian | message

Requests carry an id of the worker's choosing; replies come in any order and name it.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Literal

import msgspec

from recsys.errors import (
    CorruptArtifact,
    EncoderUnavailable,
    EnvironmentProblem,
    InvalidRequest,
    MissingArtifact,
    Overloaded,
    RecsysError,
    SpaceMismatch,
)

Modality = Literal["text", "image", "audio"]
LENGTH = struct.Struct(">I")
OVERHEAD_BYTES = 4096
"""More than a message takes beside its payload."""


class Encode(msgspec.Struct, frozen=True, tag="encode", array_like=True):
    """Ask for the vector of a text (UTF-8) or of a file's bytes.

    Attributes:
        deadline_ms: when nobody waits for it any more, on the monotonic clock, which all processes of a host share.
    """

    id: int
    release_id: str
    modality: Modality
    payload: bytes
    deadline_ms: int


class Cancel(msgspec.Struct, frozen=True, tag="cancel", array_like=True):
    """Nobody waits for this request any more. There is no reply."""

    id: int


class Prepare(msgspec.Struct, frozen=True, tag="prepare", array_like=True):
    """A worker has taken up this release: have its encoders at hand. There is no reply."""

    release_id: str


class Ask(msgspec.Struct, frozen=True, tag="status", array_like=True):
    """Ask for a `Status`."""

    id: int


class Vector(msgspec.Struct, frozen=True, tag="vector", array_like=True):
    """float32 [D] in the byte order of this machine, and the embedding space it lives in.

    Attributes:
        cached: it was encoded before.
    """

    id: int
    space_id: str
    vector: bytes
    cached: bool


class Failure(msgspec.Struct, frozen=True, tag="failure", array_like=True):
    """An error of `recsys.errors`, by the name of its class."""

    id: int
    error: str
    message: str
    field: str = ""


class Status(msgspec.Struct, frozen=True, tag="state", array_like=True):
    """How the encoder process fares.

    Attributes:
        releases: those whose encoders it holds, the one used last at the end.
        n_encoders: encoders in memory; equal ones of two releases count once.
        n_in_work: requests worked on or waiting.
        n_encoded, n_cached, n_refused, n_dropped: since its start: vectors made, vectors found in a cache, requests
            refused because it was full, requests whose time had passed before their turn.
    """

    id: int
    pid: int
    releases: tuple[str, ...]
    n_encoders: int
    n_in_work: int
    n_encoded: int
    n_cached: int
    n_refused: int
    n_dropped: int


Request = Encode | Cancel | Prepare | Ask
Reply = Vector | Failure | Status
_KINDS: tuple[type[RecsysError], ...] = (
    InvalidRequest,
    Overloaded,
    MissingArtifact,
    CorruptArtifact,
    SpaceMismatch,
    EnvironmentProblem,
    EncoderUnavailable,
)
_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_REPLIES: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def framed(message: Request | Reply) -> bytes:
    body = _ENCODER.encode(message)
    return LENGTH.pack(len(body)) + body


async def read_frame(stream: asyncio.StreamReader, max_bytes: int) -> bytes | None:
    """The next message, not yet understood; None at the end of the stream.

    Raises:
        ValueError: it claims to be longer than `max_bytes`; nothing after it can be read.
    """
    try:
        (n_bytes,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
        if n_bytes > max_bytes:
            raise ValueError(f"a message of {n_bytes} bytes is more than the {max_bytes} allowed")
        return await stream.readexactly(n_bytes)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def request_in(message: bytes) -> Request:
    """Raises msgspec.MsgspecError: it is no request."""
    return _REQUESTS.decode(message)


def reply_in(message: bytes) -> Reply:
    """Raises msgspec.MsgspecError: it is no reply."""
    return _REPLIES.decode(message)


def failure_of(error: RecsysError, request_id: int) -> Failure:
    """What a worker is told; an error of no known kind becomes EncoderUnavailable."""
    kind = next((each for each in _KINDS if isinstance(error, each)), EncoderUnavailable)
    field = error.field if isinstance(error, InvalidRequest) else ""
    return Failure(request_id, kind.__name__, str(error), field)


def error_of(failure: Failure) -> RecsysError:
    """The error that `failure_of` was told about."""
    if failure.error == InvalidRequest.__name__:
        return InvalidRequest(failure.message, field=failure.field)
    kinds = {kind.__name__: kind for kind in _KINDS}
    return kinds.get(failure.error, EncoderUnavailable)(failure.message)
