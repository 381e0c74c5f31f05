"""The families: a small release with known answers, three families of items, each around an axis of its own.

Who likes one family's items is nearest to the rest of it; a text names its family in one word. So every right answer
can be told by an item's first letter: alpha items are `a0`..`a9`, beta `b0`..`b9`, gamma `c0`..`c9`; lower numbers
are more popular, and alpha is more popular than beta, beta than gamma.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.errors import InvalidRequest
from recsys.release import IdVectors, LoadedRelease
from tests.worlds.in_memory import ContentIsPlace, MeanOfHistory, in_memory_release, space

Floats = NDArray[np.float32]
FAMILIES = {"alpha": "a", "beta": "b", "gamma": "c"}
DIM = 8
SPACES = {modality: space(modality, DIM) for modality in ("image", "text")}


def axis_of(family: str) -> Floats:
    vector = np.zeros(DIM, np.float32)
    vector[list(FAMILIES).index(family)] = 1
    return vector


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
    noise = np.random.default_rng(0).normal(0, 0.05, (len(ids), DIM)).astype(np.float32)
    centres = [axis_of(family) for family in families for _ in range(per_family)]
    vectors = np.array(centres, np.float32).reshape(len(ids), DIM) + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    everywhere = np.ones(len(ids), dtype=np.bool_)
    return in_memory_release(
        [CatalogItem(item_id, title=f"Title of {item_id}") for item_id in ids],
        vectors,
        release_id=release_id,
        counts=np.arange(len(ids), 0, -1),
        modalities=tuple(Modality(name, SPACES[name].space_id, vectors, everywhere) for name in ("image", "text")),
        query_encoder=MeanOfHistory(DIM),
        item_encoder=ContentIsPlace(DIM),
        content_encoder=FamilyNames(),
        id_vectors=IdVectors(np.zeros_like(vectors), ~everywhere),
        spaces=SPACES,
    )
