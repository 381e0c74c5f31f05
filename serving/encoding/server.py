"""The encoder process towards its workers: a unix socket that only its own user can open."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from recsys.errors import EncoderUnavailable, EnvironmentProblem, RecsysError
from serving.encoding.engine import Engine
from serving.encoding.protocol import Ask, Cancel, Encode, Prepare, Reply, Request, failure_of, framed, read_frame
from serving.encoding.protocol import request_in as decoded
from serving.telemetry import log

BACKLOG = 512


class EncoderServer:
    """Serves one engine on one socket."""

    def __init__(self, engine: Engine, max_frame_bytes: int) -> None:
        """`max_frame_bytes`: a longer message ends its connection, for it is none of ours."""
        self._engine = engine
        self._max_frame_bytes = max_frame_bytes
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, path: Path, stop: asyncio.Event) -> None:
        """Listen until `stop`, then let go of everything; the socket's file is removed.

        Raises:
            EnvironmentProblem: there can be no socket at `path`.
        """
        server = await asyncio.start_unix_server(self._connected, sock=_listening(path))
        log(logging.INFO, "the encoder process listens")
        try:
            await stop.wait()
        finally:
            server.close()
            path.unlink(missing_ok=True)
            for task in self._connections:
                task.cancel()
            await self._engine.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await _Conversation(self._engine, reader, writer, self._max_frame_bytes).hold()
        except asyncio.CancelledError:
            pass  # the process ends; the streams' own callback takes a cancelled task for a failure
        finally:
            self._connections.discard(task)
            writer.close()


class _Conversation:
    """One worker's connection. What it asked for and has not got is dropped with it."""

    def __init__(
        self, engine: Engine, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_frame_bytes: int
    ) -> None:
        self._engine = engine
        self._reader = reader
        self._writer = writer
        self._max_frame_bytes = max_frame_bytes
        self._requests: dict[int, asyncio.Task[None]] = {}

    async def hold(self) -> None:
        """Until the worker goes, or sends what is no request."""
        try:
            while (message := await read_frame(self._reader, self._max_frame_bytes)) is not None:
                self._take(decoded(message))
                await self._writer.drain()  # who does not read replies is not read, either
        except (ValueError, msgspec.MsgspecError) as error:
            log(logging.WARNING, "a connection is closed: it does not speak our protocol", why=str(error))
        except ConnectionError:
            pass
        finally:
            for task in self._requests.values():
                task.cancel()

    def _take(self, request: Request) -> None:
        if isinstance(request, Encode):
            task = asyncio.create_task(self._answer(request))
            self._requests[request.id] = task
            task.add_done_callback(lambda done: self._forget(request.id, done))
        elif isinstance(request, Cancel):
            if request.id in self._requests:
                self._requests[request.id].cancel()
        elif isinstance(request, Prepare):
            self._engine.prepare(request.release_id)
        elif isinstance(request, Ask):
            self._send(self._engine.status(request.id))

    async def _answer(self, request: Encode) -> None:
        try:
            reply: Reply = await self._engine.encode(request)
        except RecsysError as error:
            reply = failure_of(error, request.id)
        except Exception as error:  # a bug costs one request
            log(logging.ERROR, "a content could not be encoded", exc_info=True, modality=request.modality)
            reply = failure_of(EncoderUnavailable(f"the encoder failed ({type(error).__name__})"), request.id)
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        if not self._writer.is_closing():
            self._writer.write(framed(reply))

    def _forget(self, request_id: int, done: asyncio.Task[None]) -> None:
        if self._requests.get(request_id) is done:
            del self._requests[request_id]


def _listening(path: Path) -> socket.socket:
    """A socket at `path` with mode 0600 from the moment it can be found; one that lies there is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            new.unlink()
        listener.bind(str(new))
        new.chmod(0o600)
        listener.listen(BACKLOG)
        new.rename(path)
    except OSError as error:
        listener.close()
        raise EnvironmentProblem(
            f"there can be no socket at {path} ({error.strerror or error}): "
            "the folder must exist and be yours, and the path be no longer than 100 characters"
        ) from None
    listener.setblocking(False)
    return listener
