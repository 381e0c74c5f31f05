"""The encoder process as a worker sees it: asked from the event loop, or from a thread through the port.

The connection lives on an event loop of its own in a thread, so that neither face depends on who runs the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EncoderUnavailable, InvalidRequest, SpaceMismatch, TooLarge
from serving.bounded_cache import BoundedCache
from serving.encoding.connection import Connection
from serving.encoding.protocol import Ask, Encode, Failure, Modality, Prepare, Status, Vector, error_of
from serving.telemetry import Telemetry

T = TypeVar("T")
Floats = NDArray[np.float32]
KNOWN_RELEASES = 8
PREPARE_S = 30.0
CLOSE_S = 5.0
_OnConnection = Callable[[Connection], Coroutine[Any, Any, T]]


class EncoderClient:
    """Implements `serving.encoding.port.ContentEncoding`. Safe from several threads.

    All vectors are float32 [D], read-only. What the methods raise:
        InvalidRequest: the content is none of its kind, or the release encodes none.
        TooLarge: it is longer than the process takes.
        Overloaded: the process has too much to do.
        EncoderUnavailable: there is no process, or it did not answer in time.
        ArtifactError: the release's encoders cannot be used.
    """

    def __init__(self, socket: Path, telemetry: Telemetry, *, cached_texts: int, max_bytes: int) -> None:
        """`cached_texts`: vectors of texts kept in this process; `max_bytes`: longest content."""
        self._socket = socket
        self._telemetry = telemetry
        self._texts: BoundedCache[bytes, Floats] = BoundedCache(cached_texts)
        self._max_bytes = max_bytes
        self._spaces: OrderedDict[str, Mapping[str, str]] = OrderedDict()
        self._starting = Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._thread: Thread | None = None

    async def encode_text(self, text: str, *, release_id: str, timeout_s: float) -> Floats:
        """The vector of a query's text; raises as the class says, within `timeout_s`."""
        payload = _utf8(text)
        key = hashlib.sha256(f"{release_id}|".encode() + payload).digest()
        known = self._texts.get(key)
        self._telemetry.cache("query_text", "miss" if known is None else "hit")
        if known is None:
            known = await asyncio.wrap_future(self._submit("text", payload, release_id, timeout_s, patient=False))
            self._texts.put(key, known)
        return known

    async def encode_image(self, data: bytes, *, release_id: str, timeout_s: float) -> Floats:
        """The vector of a picture's file; raises as the class says, within `timeout_s`."""
        return await asyncio.wrap_future(self._submit("image", data, release_id, timeout_s, patient=False))

    async def encode_audio(self, data: bytes, *, release_id: str, timeout_s: float) -> Floats:
        """The vector of a sound's file; raises as the class says, within `timeout_s`."""
        return await asyncio.wrap_future(self._submit("audio", data, release_id, timeout_s, patient=False))

    def ask(self, modality: Modality, content: str | bytes, *, release_id: str, timeout_s: float) -> Floats:
        """The same from a thread. A process that is just starting is waited for."""
        payload = _utf8(content) if isinstance(content, str) else content
        try:
            return self._submit(modality, payload, release_id, timeout_s, patient=True).result()
        except CancelledError:
            raise EncoderUnavailable("the service is closing") from None

    def status(self, timeout_s: float) -> Status:
        """How the process fares, from a thread. Raises EncoderUnavailable."""
        deadline_s = time.monotonic() + timeout_s
        reply = self._run(lambda connection: connection.ask(Ask, deadline_s, patient=False)).result()
        assert isinstance(reply, Status)
        return reply

    def prepare(self, release_id: str, space_ids: Mapping[str, str]) -> None:
        """Have the process open this release's encoders; returns at once. Their vectors must live in these spaces."""
        self._spaces[release_id] = dict(space_ids)
        while len(self._spaces) > KNOWN_RELEASES:
            self._spaces.popitem(last=False)

        async def prepare(connection: Connection) -> None:
            with suppress(EncoderUnavailable):  # it opens them when it is asked for a vector
                await connection.tell(Prepare(release_id), time.monotonic() + PREPARE_S)

        self._run(prepare)

    def close(self) -> None:
        """Who still waits is told that there is no process. Can be called again."""
        with self._starting:
            self._closed = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(CLOSE_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CLOSE_S)
            loop.close()

    def _submit(
        self, modality: Modality, payload: bytes, release_id: str, timeout_s: float, *, patient: bool
    ) -> Future[Floats]:
        if len(payload) > self._max_bytes:
            raise TooLarge(f"it has {len(payload)} bytes; at most {self._max_bytes}", field=f"/{modality}")
        spaces = self._spaces.get(release_id)
        if spaces is not None and modality not in spaces:
            raise InvalidRequest(f"this release has no {modality} encoder", field=f"/{modality}")
        deadline_s = time.monotonic() + timeout_s

        async def vector(connection: Connection) -> Floats:
            request = partial(_request, release_id, modality, payload, int(deadline_s * 1000))
            reply = await connection.ask(request, deadline_s, patient=patient)
            if isinstance(reply, Failure):
                raise error_of(reply)
            assert isinstance(reply, Vector)
            if spaces is not None and reply.space_id != spaces[modality]:
                raise SpaceMismatch(f"the encoder process gives {modality} vectors of another embedding space")
            self._telemetry.cache("encoder_process", "hit" if reply.cached else "miss")
            return np.frombuffer(reply.vector, dtype=np.float32)

        return self._run(vector)

    def _run(self, work: _OnConnection[T]) -> Future[T]:
        with self._starting:
            if self._closed:
                raise EncoderUnavailable("the service is closing")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = Thread(target=self._loop.run_forever, name="encoder-client", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(self._with_connection(work), self._loop)

    async def _with_connection(self, work: _OnConnection[T]) -> T:
        if self._connection is None:
            self._connection = Connection(self._socket)
        return await work(self._connection)

    async def _end(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _request(release_id: str, modality: Modality, payload: bytes, deadline_ms: int, request_id: int) -> Encode:
    return Encode(request_id, release_id, modality, payload, deadline_ms)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"it cannot be written as UTF-8: {error.reason}", field="/text") from None
