"""A release made of arrays, in memory: what tests hand to the recommender in place of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.catalog import CatalogItem, items_table
from recsys.dataset import Modality
from recsys.events import hash64
from recsys.features.blend import Blend
from recsys.features.transitions import Neighbours
from recsys.index.exact import ExactIndex
from recsys.manifest import EmbeddingSpace, ReleaseManifest
from recsys.ports import ContentEncoder, ItemEncoder, QueryEncoder
from recsys.release import IdVectors, LoadedRelease, ServingSchema
from recsys.vocabulary import Vocabulary

Floats = NDArray[np.float32]


class MeanOfHistory:
    """A query tower: the mean of the history, or nothing in particular. Counts how often it runs."""

    def __init__(self, dim: int = 8) -> None:
        self.dim = dim
        self.n_calls = 0

    def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
        self.n_calls += 1
        return history.mean(axis=0) if len(history) else np.zeros(self.dim, np.float32)

    def encode_many(
        self,
        histories: Floats,
        event_types: NDArray[np.int64],
        lengths: NDArray[np.int64],
        user_text: Floats | None = None,
        reads_text: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """One after the other."""
        reads = np.ones(len(histories), np.bool_) if reads_text is None else reads_text
        queries = [
            self.encode(history[:length], types[:length], user_text if reads_it else None)
            for history, types, length, reads_it in zip(histories, event_types, lengths, reads, strict=True)
        ]
        return np.array(queries, np.float32)


class ContentIsPlace:
    """An item tower: an item lies where its content lies. Counts how often it runs."""

    def __init__(self, dim: int = 8) -> None:
        self.dim = dim
        self.n_calls = 0

    def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
        self.n_calls += 1
        return np.mean(list(vectors.values()), axis=0, dtype=np.float32) if vectors else np.zeros(self.dim, np.float32)

    def encode_batch(
        self,
        id_vectors: Floats,
        id_mask: NDArray[np.bool_],
        modalities: Mapping[str, tuple[Floats, NDArray[np.bool_]]],
        categories: NDArray[np.bool_],
    ) -> Floats:
        """One after the other."""
        placed = []
        for at in range(len(id_vectors)):
            known = {name: vectors[at] for name, (vectors, mask) in modalities.items() if mask[at]}
            if id_mask[at]:
                known["id"] = id_vectors[at]
            placed.append(self.encode_new(known, categories[at]))
        return np.array(placed, np.float32).reshape(len(placed), self.dim)


class SumOfParts(ContentIsPlace):
    """An item tower: the sum of all that is known of an item, its id vector among it; nothing known is nowhere."""

    def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
        self.n_calls += 1
        return np.sum([np.zeros(self.dim, np.float32), *vectors.values()], axis=0, dtype=np.float32)


def space(modality: str, dim: int) -> EmbeddingSpace:
    return EmbeddingSpace(encoder="world", modality=modality, weights_sha256="0", preprocessing="{}", dim=dim)


def no_neighbours(n_items: int) -> Neighbours:
    return Neighbours(np.full((n_items, 1), -1, np.int32), np.zeros((n_items, 1), np.float32))


def neighbours_of(following: Sequence[Sequence[tuple[int, float]]]) -> Neighbours:
    """From (row, weight) pairs for each item, heaviest first."""
    width = max((len(pairs) for pairs in following), default=0) or 1
    rows = np.full((len(following), width), -1, np.int32)
    weights = np.zeros((len(following), width), np.float32)
    for item, pairs in enumerate(following):
        for place, (row, weight) in enumerate(pairs):
            rows[item, place], weights[item, place] = row, weight
    return Neighbours(rows, weights)


def in_memory_release(
    items: Sequence[CatalogItem],
    vectors: Floats,
    *,
    release_id: str = "r1",
    counts: Sequence[int] | NDArray[np.int64] | None = None,
    neighbours: Neighbours | None = None,
    modalities: tuple[Modality, ...] = (),
    category_names: tuple[str, ...] = (),
    blend: Blend | None = None,
    max_history: int = 50,
    profiles: Mapping[str, Floats] | None = None,
    query_encoder: QueryEncoder | None = None,
    item_encoder: ItemEncoder | None = None,
    content_encoder: ContentEncoder | None = None,
    spaces: Mapping[str, EmbeddingSpace] | None = None,
    id_vectors: IdVectors | None = None,
) -> LoadedRelease:
    """The release of these items and their vectors float32 [N, D]; without a query encoder it has no towers.

    `counts` int64 [N] are interactions (0 each), `profiles` the users' text vectors.
    """
    n_items = len(items)
    ids = [item.item_id for item in items]
    interactions = np.zeros(n_items, np.int64) if counts is None else np.asarray(counts, dtype=np.int64)
    by_hash = {hash64(user_id): vector for user_id, vector in (profiles or {}).items()}
    hashes = np.array(sorted(by_hash), dtype=np.uint64)
    vocabulary = Vocabulary(ids)
    return LoadedRelease(
        manifest=ReleaseManifest(
            release_id=release_id, files={}, spaces=spaces or {}, n_items=n_items, dim=vectors.shape[1], acceptance={}
        ),
        schema=ServingSchema(
            vocabulary_checksum=vocabulary.checksum,
            event_type_names=("unknown", "interaction", "view"),
            category_names=category_names,
            modalities=tuple(modality.name for modality in modalities),
            index="ExactIndex",
            history_window=10,
            history_decay=0.8,
            blend=blend or Blend(),
            max_history=max_history,
            has_towers=query_encoder is not None,
        ),
        vocabulary=vocabulary,
        items=items_table(list(items), list(range(n_items))),
        item_vectors=vectors,
        modalities=modalities,
        index=ExactIndex(vectors),
        neighbours=neighbours or no_neighbours(n_items),
        log_popularity=np.log1p(interactions).astype(np.float32),
        popular_rows=np.argsort(-interactions, kind="stable").astype(np.int64),
        profile_hashes=hashes,
        profiles=np.array([by_hash[user] for user in hashes.tolist()], dtype=np.float32),
        query_encoder=query_encoder,
        item_encoder=item_encoder,
        content_encoder=content_encoder,
        content_indexes={each.name: ExactIndex(each.vectors, are_checked=True) for each in modalities},
        id_vectors=id_vectors,
    )
