"""Copies kept to save work or to survive a failure; every one may be dropped without loss.

query vectors     by the exact bytes that went into the query tower: a new event is another key, so a hit is never old
content vectors   by the text or picture: an upsert that changes a price encodes nothing
user states       the last one read of each user, used only while the store does not answer, and then said so
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from recsys.errors import StoreUnavailable
from recsys.events import Exposure
from recsys.ports import ContentEncoder, QueryEncoder, Store, UserState
from recsys.release import LoadedRelease
from serving.bounded_cache import BoundedCache
from serving.telemetry import CacheName, Telemetry

Floats = NDArray[np.float32]
# What a `UserState` costs in entries: its history items, and 16 bytes-wide marks for about the size of one of them.
MARKS_PER_ENTRY = 16


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


class CachedQueryEncoder:
    """A `QueryEncoder` that runs the tower once for each distinct input."""

    def __init__(self, encoder: QueryEncoder, cache: VectorCache, release_id: str) -> None:
        self._encoder = encoder
        self._cache = cache
        self._release = release_id.encode()

    @property
    def dim(self) -> int:
        return self._encoder.dim

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        """See the port."""
        digest = hashlib.sha256(self._release)
        digest.update(f"|{history.shape}|{user_text is None}|".encode())
        for part in (history, event_types, user_text):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        return self._cache.of(digest.digest(), lambda: self._encoder.encode(history, event_types, user_text))


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


def with_caches(release: LoadedRelease, query_vectors: VectorCache, content_vectors: VectorCache) -> LoadedRelease:
    """The release with its encoders behind caches; the caches may be shared by several releases."""
    query_encoder, content_encoder = release.query_encoder, release.content_encoder
    return replace(
        release,
        query_encoder=query_encoder and CachedQueryEncoder(query_encoder, query_vectors, release.release_id),
        content_encoder=content_encoder and CachedContentEncoder(content_encoder, content_vectors),
    )


class KnownStates:
    """The last state read of each user, for the time that the store does not answer."""

    def __init__(self, max_entries: int, telemetry: Telemetry) -> None:
        self._states: BoundedCache[str, UserState] = BoundedCache(max_entries, _entries_of)
        self._telemetry = telemetry

    def remember(self, user_id: str, state: UserState) -> None:
        self._states.put(user_id, state)

    def last_known(self, user_id: str) -> UserState | None:
        state = self._states.get(user_id)
        self._telemetry.cache("user_state", "miss" if state is None else "hit")
        return state


class RememberingStore:
    """The store as one request sees it: after its first failure it is not asked again.

    Attributes:
        stale: the state that it gave was an earlier one, kept by this process.
    """

    def __init__(self, store: Store, states: KnownStates, telemetry: Telemetry) -> None:
        self._store = store
        self._states = states
        self._telemetry = telemetry
        self._failed: StoreUnavailable | None = None
        self.stale = False

    def user_state(self, user_id: str) -> UserState:
        """The state as stored, else the last one known; raises StoreUnavailable where there is neither."""
        try:
            state = self._store.user_state(user_id)
        except StoreUnavailable as error:
            self._note(error, "user_state")
            known = self._states.last_known(user_id)
            if known is None:
                raise
            self.stale = True
            return known
        self._states.remember(user_id, state)
        return state

    def append_exposure(self, exposure: Exposure) -> None:
        if self._failed is not None:
            raise StoreUnavailable("the store did not answer earlier in this request") from self._failed
        try:
            self._store.append_exposure(exposure)
        except StoreUnavailable as error:
            self._note(error, "append_exposure")
            raise

    def _note(self, error: StoreUnavailable, call: str) -> None:
        self._failed = error
        self._telemetry.store_error(call)


def _entries_of(state: UserState) -> int:
    return 1 + len(state.history) + (len(state.seen) + len(state.blocked)) // MARKS_PER_ENTRY
