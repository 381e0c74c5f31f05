"""Copies kept to save work or to survive a failure; every one may be dropped without loss.

content vectors   by the text or picture: an upsert that changes a price encodes nothing
user states       the last one read of each user, used only while the store does not answer, and then said so
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.ports import ContentEncoder, PackedState
from recsys.release import LoadedRelease
from serving.bounded_cache import BoundedCache
from serving.telemetry import CacheName, Telemetry

Floats = NDArray[np.float32]


class VectorCache:
    """A bounded cache of vectors float32 [D] that counts its hits and misses."""

    def __init__(self, name: CacheName, capacity: int, telemetry: Telemetry) -> None:
        self._name = name
        self._vectors: BoundedCache[bytes, Floats] = BoundedCache(capacity)
        self._telemetry = telemetry

    def of(self, key: bytes, make: Callable[[], Floats]) -> Floats:
        """The vector kept under `key`, else `make()`'s, kept from now on."""
        vector = self._vectors.get(key)
        self._telemetry.cache(self._name, "miss" if vector is None else "hit")
        if vector is None:
            vector = make()
            self._vectors.put(key, vector)
        return vector


class CachedContentEncoder:
    """A `ContentEncoder` that encodes each text, picture and sound once in an embedding space."""

    def __init__(self, encoder: ContentEncoder, cache: VectorCache) -> None:
        self._encoder = encoder
        self._cache = cache

    @property
    def space_ids(self) -> Mapping[str, str]:
        return self._encoder.space_ids

    def encode_image(self, data: bytes) -> Floats:
        """See the port."""
        return self._cache.of(self._key("image", data), lambda: self._encoder.encode_image(data))

    def encode_text(self, text: str) -> Floats:
        """See the port."""
        return self._cache.of(self._key("text", text.encode()), lambda: self._encoder.encode_text(text))

    def encode_audio(self, data: bytes) -> Floats:
        """See the port."""
        return self._cache.of(self._key("audio", data), lambda: self._encoder.encode_audio(data))

    def _key(self, modality: str, content: bytes) -> bytes:
        digest = hashlib.sha256(f"{modality}|{self.space_ids.get(modality)}|".encode())
        digest.update(content)
        return digest.digest()


def with_caches(release: LoadedRelease, content_vectors: VectorCache) -> LoadedRelease:
    """The release with its content encoder behind a cache, which may be shared by several releases."""
    encoder = release.content_encoder
    return replace(release, content_encoder=encoder and CachedContentEncoder(encoder, content_vectors))


class KnownStates:
    """The last state read of each user, for the time that the store does not answer."""

    def __init__(self, max_bytes: int, telemetry: Telemetry) -> None:
        self._states: BoundedCache[str, PackedState] = BoundedCache(max_bytes, lambda state: state.size_bytes)
        self._telemetry = telemetry

    def __len__(self) -> int:
        return len(self._states)

    def remember(self, user_id: str, state: PackedState) -> None:
        self._states.put(user_id, state)

    def forget(self, user_id: str) -> None:
        """Of somebody who was erased, or merged into another, nothing may be answered any more."""
        self._states.drop(user_id)

    def last_known(self, user_id: str) -> PackedState | None:
        state = self._states.get(user_id)
        self._telemetry.cache("user_state", "miss" if state is None else "hit")
        return state
