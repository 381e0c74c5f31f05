"""A small world with known answers: three families of items, each around an axis of its own.

Who likes one family's items is nearest to the rest of it; a text names its family in one word. So every right answer
can be told by an item's first letter: alpha items are `a0`..`a9`, beta `b0`..`b9`, gamma `c0`..`c9`; lower numbers
are more popular, and alpha is more popular than beta, beta than gamma.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.catalog import CatalogItem, items_table
from recsys.dataset import Modality
from recsys.errors import CorruptArtifact, InvalidRequest, StoreUnavailable
from recsys.features.blend import Blend
from recsys.features.transitions import Neighbours
from recsys.index.exact import ExactIndex
from recsys.manifest import EmbeddingSpace, ReleaseManifest
from recsys.ports import LiveItem, UserState
from recsys.recommender import RecommenderConfig
from recsys.release import LoadedRelease, ServingSchema
from recsys.serving_config import ServingConfig
from recsys.storage.memory_store import MemoryStore
from recsys.vocabulary import Vocabulary
from serving.bootstrap import service_over
from serving.service import Service
from serving.settings import Settings
from serving.telemetry import Telemetry

Floats = NDArray[np.float32]
FAMILIES = {"alpha": "a", "beta": "b", "gamma": "c"}
DIM = 8
SPACES = {
    modality: EmbeddingSpace(encoder="world", modality=modality, weights_sha256="0", preprocessing="{}", dim=DIM)
    for modality in ("image", "text")
}


def axis_of(family: str) -> Floats:
    vector = np.zeros(DIM, np.float32)
    vector[list(FAMILIES).index(family)] = 1
    return vector


class MeanOfHistory:
    """A query tower: the mean of the history, or nothing in particular. Counts how often it runs."""

    dim = DIM

    def __init__(self) -> None:
        self.n_calls = 0

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        self.n_calls += 1
        return history.mean(axis=0) if len(history) else np.zeros(DIM, np.float32)


class ContentIsPlace:
    """An item tower: an item lies where its content lies."""

    def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
        return np.mean(list(vectors.values()), axis=0, dtype=np.float32) if vectors else np.zeros(DIM, np.float32)


class FamilyNames:
    """A content encoder that looks for the name of a family. Counts how often it runs."""

    def __init__(self) -> None:
        self.n_calls = 0

    @property
    def space_ids(self) -> Mapping[str, str]:
        return {name: space.space_id for name, space in SPACES.items()}

    def encode_text(self, text: str) -> Floats:
        self.n_calls += 1
        named = [axis_of(family) for family in FAMILIES if family in text.lower()]
        return np.mean(named, axis=0, dtype=np.float32) if named else np.zeros(DIM, np.float32)

    def encode_image(self, data: bytes) -> Floats:
        if not data.startswith(b"PICTURE"):
            raise InvalidRequest("not an image in JPEG, PNG, WEBP: convert it to one of these", field="/image")
        return self.encode_text(data.decode())


def release(
    release_id: str = "r1", *, per_family: int = 10, families: Sequence[str] = tuple(FAMILIES)
) -> LoadedRelease:
    """The world as a release of `per_family` items each."""
    ids = [f"{FAMILIES[family]}{number}" for family in families for number in range(per_family)]
    items = [CatalogItem(item_id, title=f"Title of {item_id}") for item_id in ids]
    noise = np.random.default_rng(0).normal(0, 0.05, (len(ids), DIM)).astype(np.float32)
    centres = [axis_of(family) for family in families for _ in range(per_family)]
    vectors = np.array(centres, np.float32).reshape(len(ids), DIM) + noise
    counts = np.arange(len(ids), 0, -1)
    everywhere = np.ones(len(ids), dtype=np.bool_)
    modalities = tuple(Modality(name, SPACES[name].space_id, vectors, everywhere) for name in ("image", "text"))
    return LoadedRelease(
        manifest=ReleaseManifest(
            release_id=release_id, files={}, spaces=SPACES, n_items=len(ids), dim=DIM, acceptance={}
        ),
        schema=_schema(ids),
        vocabulary=Vocabulary(ids),
        items=items_table(items, list(range(len(ids)))),
        item_vectors=vectors,
        modalities=modalities,
        index=ExactIndex(vectors),
        neighbours=Neighbours(np.full((len(ids), 1), -1, np.int32), np.zeros((len(ids), 1), np.float32)),
        log_popularity=np.log1p(counts).astype(np.float32),
        popular_rows=np.arange(len(ids), dtype=np.int64),
        profile_hashes=np.empty(0, np.uint64),
        profiles=np.empty((0, DIM), np.float32),
        query_encoder=MeanOfHistory(),
        item_encoder=ContentIsPlace(),
        content_encoder=FamilyNames(),
    )


def _schema(ids: Sequence[str]) -> ServingSchema:
    return ServingSchema(
        vocabulary_checksum=Vocabulary(ids).checksum,
        event_type_names=("unknown", "interaction", "view"),
        category_names=(),
        modalities=("image", "text"),
        index="exact",
        blend=Blend(),
        max_history=50,
        has_towers=True,
        history_window=10,
        history_decay=0.8,
    )


@dataclass
class Shelf:
    """A release store in memory: releases by id, `None` for one whose bytes are broken, and the pointer."""

    releases: dict[str, LoadedRelease | None] = field(default_factory=lambda: {"r1": release()})
    pointer: str | None = "r1"
    pointer_is_broken: bool = False

    def current(self) -> str | None:
        if self.pointer_is_broken:
            raise CorruptArtifact("releases/current names no release")
        return self.pointer

    def load(self, release_id: str) -> LoadedRelease:
        found = self.releases[release_id]
        if found is None:
            raise CorruptArtifact("item_vectors.npy differs from its manifest")
        return found


class FlakyStore(MemoryStore):
    """A store that answers only while it is `up`."""

    def __init__(self) -> None:
        super().__init__()
        self.up = True

    def _require_up(self) -> None:
        if not self.up:
            raise StoreUnavailable("the store at 10.1.2.3 does not answer")

    def user_state(self, user_id: str) -> UserState:
        self._require_up()
        return super().user_state(user_id)

    def append(self, interactions: Any) -> Any:
        self._require_up()
        return super().append(interactions)

    def append_exposure(self, exposure: Any) -> None:
        self._require_up()
        super().append_exposure(exposure)

    def upsert_items(self, items: Sequence[LiveItem]) -> int:
        self._require_up()
        return super().upsert_items(items)

    def items_since(self, version: int) -> tuple[int, Sequence[LiveItem]]:
        self._require_up()
        return super().items_since(version)

    def ping(self) -> None:
        self._require_up()

    def forget_items(self) -> None:
        """As a Redis without persistence does when it restarts."""
        with self._lock:
            self._items.clear()
            self._items_version = 0


def settings(workspace: Path, **serving: Any) -> Settings:
    config = {"store_url": "memory://", "live_poll_s": 0.05, "release_poll_s": 0.05, **serving}
    return Settings(workspace, ServingConfig(**config), RecommenderConfig())


def opener(store: Any, shelf: Any) -> Callable[[Settings, Telemetry], Service]:
    """For `create_app(settings, open_service=...)`: the world's parts joined by the real bootstrap."""

    def open_service(settings: Settings, telemetry: Telemetry) -> Service:
        return service_over(store, shelf, shelf.load, settings, telemetry)

    return open_service
