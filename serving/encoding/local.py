"""Encoders in the worker itself, with the face of the encoder process: `[serving.encoder] process = "off"`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from recsys.errors import EncoderUnavailable, InvalidRequest
from recsys.ports import ContentEncoder
from serving.work import Work

Floats = NDArray[np.float32]


class LocalContentEncoding:
    """Implements `serving.encoding.port.ContentEncoding`; encodes in the threads of `work`."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._encoders: WeakValueDictionary[str, ContentEncoder] = WeakValueDictionary()

    def know(self, release_id: str, encoder: ContentEncoder | None) -> None:
        """Encode for this release from now on, as long as somebody else holds its encoder."""
        if encoder is not None:
            self._encoders[release_id] = encoder

    async def encode_text(self, text: str, *, release_id: str, timeout_s: float) -> Floats:
        """See the port."""
        encoder = self._encoder(release_id, "text")
        return await self._in_time(lambda: encoder.encode_text(text), timeout_s)

    async def encode_image(self, data: bytes, *, release_id: str, timeout_s: float) -> Floats:
        """See the port."""
        encoder = self._encoder(release_id, "image")
        return await self._in_time(lambda: encoder.encode_image(data), timeout_s)

    async def encode_audio(self, data: bytes, *, release_id: str, timeout_s: float) -> Floats:
        """See the port."""
        encoder = self._encoder(release_id, "audio")
        return await self._in_time(lambda: encoder.encode_audio(data), timeout_s)

    def close(self) -> None:
        """Nothing is held here."""

    def _encoder(self, release_id: str, modality: str) -> ContentEncoder:
        encoder = self._encoders.get(release_id)
        if encoder is None or modality not in encoder.space_ids:
            raise InvalidRequest(f"this release has no {modality} encoder", field=f"/{modality}")
        return encoder

    async def _in_time(self, call: Callable[[], Floats], timeout_s: float) -> Floats:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._work.run(call)
        except TimeoutError:
            raise EncoderUnavailable(f"the encoder gave no answer in {timeout_s * 1000:.0f} ms") from None
