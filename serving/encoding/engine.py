"""From one request to its vector: cache, room, encoders, decoding, forward pass.

    texts               cache → compute lane
    pictures, sounds    cache → decode lane (isolated processes) → compute lane

Long texts are tokenised in the decode lane, too: queries do not wait for a description of 100,000 characters.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import Encoder
from embeddings.preprocess.features import Features
from recsys.errors import InputError, InvalidRequest, Overloaded, RecsysError
from recsys.serving_config import EncoderProcessConfig
from serving.bounded_cache import BoundedCache
from serving.encoding.decoding import IsolatedDecoder
from serving.encoding.lane import Lane
from serving.encoding.library import Library
from serving.encoding.protocol import Encode, Status, Vector
from serving.telemetry import log

T = TypeVar("T")
Floats = NDArray[np.float32]
LONG_TEXT_BYTES = 4_000
WARMING_S = 60.0


class Engine:
    """Belongs to one event loop; what takes long runs in threads of the lanes."""

    def __init__(
        self, library: Library, decoder: IsolatedDecoder, config: EncoderProcessConfig, clock: Callable[[], float]
    ) -> None:
        """`clock`: the monotonic clock that the deadlines are on, in seconds."""
        self._library = library
        self._decoder = decoder
        self._clock = clock
        self._queue = config.queue
        self._decode = Lane("decode", clock)
        self._compute = Lane("compute", clock)
        self._texts: BoundedCache[bytes, Floats] = BoundedCache(config.cached_texts)
        self._files: BoundedCache[bytes, Floats] = BoundedCache(config.cached_images)
        self._warming: set[asyncio.Task[None]] = set()
        self._n_in_work = self._n_encoded = self._n_cached = self._n_refused = 0

    def prepare(self, release_id: str) -> None:
        """Begin to open a release's encoders, and to start what decodes its pictures."""
        task = asyncio.create_task(self._warm(release_id))
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def encode(self, request: Encode) -> Vector:
        """The vector of one content.

        Raises:
            Overloaded: there is no room, or no time: at once where that can be told.
            InvalidRequest: it is no text, picture or sound, or the release encodes none.
            ArtifactError, EnvironmentProblem, EncoderUnavailable: see `Library.encoders`, `IsolatedDecoder`.
        """
        if self._n_in_work >= self._queue:
            self._n_refused += 1
            raise Overloaded("the encoder has as many requests as it takes; try again in a second")
        self._n_in_work += 1
        try:
            return await self._vector(request)
        finally:
            self._n_in_work -= 1

    async def _vector(self, request: Encode) -> Vector:
        modality, deadline_s = request.modality, request.deadline_ms / 1000.0
        encoder = (await self._library.encoders(request.release_id, deadline_s)).get(modality)
        if encoder is None:
            raise InvalidRequest(f"this release has no {modality} encoder", field=f"/{modality}")
        space_id = encoder.space.space_id
        cache = self._texts if modality == "text" else self._files
        key = hashlib.sha256(f"{space_id}|".encode() + request.payload).digest()
        known = cache.get(key)
        if known is not None:
            self._n_cached += 1
            return Vector(request.id, space_id, known.tobytes(), True)
        vector = await self._encoded(encoder, request, deadline_s, cache, key)
        return Vector(request.id, space_id, vector.tobytes(), False)

    async def _encoded(
        self, encoder: Encoder, request: Encode, deadline_s: float, cache: BoundedCache[bytes, Floats], key: bytes
    ) -> Floats:
        modality = request.modality
        ahead = modality != "text" or len(request.payload) > LONG_TEXT_BYTES
        wait_s = self._compute.expected_wait_s + (self._decode.expected_wait_s if ahead else 0.0)
        if self._clock() + wait_s > deadline_s:
            self._n_refused += 1
            raise Overloaded(f"the encoder is {wait_s * 1000:.0f} ms behind; try again in a second")

        def forward(features: Features | None) -> Floats:
            known = cache.get(key)  # an equal request may have been before this one in the queue
            if known is not None:
                return known
            if features is None:
                features = encoder.preprocess(_text(request.payload))
            vector: Floats = encoder.encode_features([features])[0]
            cache.put(key, vector)
            self._n_encoded += 1
            return vector

        features = None
        try:
            if ahead:
                features = await self._decode.run(modality, deadline_s, lambda: self._features(encoder, request))
            return await self._compute.run(modality, deadline_s, lambda: forward(features))
        except InputError as error:
            raise InvalidRequest(str(error), field=f"/{modality}") from None

    def _features(self, encoder: Encoder, request: Encode) -> Features:
        if request.modality == "text":
            return encoder.preprocess(_text(request.payload))
        return self._decoder.features(encoder.space.preprocessing, request.payload)

    async def _warm(self, release_id: str) -> None:
        deadline_s = self._clock() + WARMING_S
        try:
            encoder = (await self._library.encoders(release_id, deadline_s)).get("image")
            if encoder is not None:
                preprocessing = encoder.space.preprocessing
                await self._decode.run("start", deadline_s, lambda: self._decoder.start(preprocessing))
        except RecsysError as error:
            log(logging.WARNING, "a release is not prepared", release=release_id, why=str(error))

    def status(self, request_id: int) -> Status:
        """How it fares."""
        return Status(
            id=request_id,
            pid=os.getpid(),
            releases=self._library.releases,
            n_encoders=self._library.n_encoders,
            n_in_work=self._n_in_work,
            n_encoded=self._n_encoded,
            n_cached=self._n_cached,
            n_refused=self._n_refused,
            n_dropped=self._decode.n_dropped + self._compute.n_dropped,
        )

    async def close(self) -> None:
        """Wait for what runs, drop what waits, and end the decode processes."""
        for task in self._warming:
            task.cancel()
        await asyncio.gather(self._library.close(), self._decode.close(), self._compute.close())
        self._decoder.close()


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"it is not UTF-8: {error}") from None
