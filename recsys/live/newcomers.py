"""Items that came after the release: their rows, and where the towers and their content place them.

Letters: M of them, deleted ones among them; D width of an item vector, D_m of one kind of content, K of a compact one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import Modality
from recsys.errors import ArtifactError
from recsys.features.diversity import side_by_side
from recsys.live.layered import Layered
from recsys.ports import LiveItem
from recsys.release import LoadedRelease

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Content = Mapping[str, tuple[Floats, Mask]]
TRIED_AGAIN = 64
"""Items that the item tower failed on and that one update tries again: where it always fails, no update takes long."""


@dataclass(frozen=True)
class Newcomers:
    """In the order of their first write. A place once given stays, so that histories in rows stay right.

    Attributes:
        ids: of places 0..M-1.
        place_of: their places by id.
        vectors: float32 [M, D], from the item tower without an id; zeros where there is none, and of deleted items.
        content: modality → (float32 [M, D_m], bool [M] present).
        diversity: int8 [M, K], their compact content vectors (`recsys.features.diversity`).
        unplaced_ids: items that the item tower failed on: they have a vector of zeros.
        mark: the same object as long as nothing here is different.
    """

    ids: tuple[str, ...]
    place_of: Layered[str, int]
    vectors: Floats
    content: Content
    diversity: NDArray[np.int8]
    unplaced_ids: tuple[str, ...] = ()
    mark: object = field(default_factory=object)

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def none(release: LoadedRelease) -> Newcomers:
        return Newcomers(
            ids=(),
            place_of=Layered[str, int](),
            vectors=np.zeros((0, release.item_vectors.shape[1]), np.float32),
            content={each.name: _content(each, ()) for each in release.modalities},
            diversity=np.empty((0, 0), np.int8),
        )

    def with_changes(
        self, changed: Mapping[str, LiveItem], before: Mapping[str, LiveItem], release: LoadedRelease
    ) -> Newcomers:
        """With these items as they were last upserted; itself where their places stay as they are.

        Args:
            changed: by id, none of them of the release.
            before: all items as they were upserted before that.
        """
        moved = [
            item
            for item in changed.values()
            if item.item_id not in self.place_of or not _lie_alike(item, before[item.item_id])
        ]
        tried = self._tried_again(changed, before, {item.item_id for item in moved})
        items = [*moved, *tried]
        if not items:
            return self
        placed = [_place_of(item, release) for item in items]
        tried_ids = {item.item_id for item in items}
        unplaced_ids = (
            *(item_id for item_id in self.unplaced_ids if item_id not in tried_ids),
            *(item.item_id for item, vector in zip(items, placed, strict=True) if vector is None),
        )
        if not moved and all(vector is None for vector in placed):
            return replace(self, unplaced_ids=unplaced_ids)
        fresh = [item.item_id for item in moved if item.item_id not in self.place_of]
        places = {item_id: len(self) + at for at, item_id in enumerate(fresh)}
        return self._moved(
            items, placed, self.place_of.with_entries(places), (*self.ids, *fresh), unplaced_ids, release
        )

    def _tried_again(
        self, changed: Mapping[str, LiveItem], before: Mapping[str, LiveItem], moved_ids: set[str]
    ) -> list[LiveItem]:
        """Some of the items that the tower failed on, those that waited longest first."""
        waiting = [item_id for item_id in self.unplaced_ids if item_id not in moved_ids]
        return [changed.get(item_id) or before[item_id] for item_id in waiting[:TRIED_AGAIN]]

    def _moved(
        self,
        items: Sequence[LiveItem],
        placed: Sequence[Floats | None],
        place_of: Layered[str, int],
        ids: tuple[str, ...],
        unplaced_ids: tuple[str, ...],
        release: LoadedRelease,
    ) -> Newcomers:
        """With these items where the tower placed them."""
        at = np.array([place_of[item.item_id] for item in items], dtype=np.int64)
        nowhere = np.zeros(self.vectors.shape[1], np.float32)
        vectors = _with(self.vectors, at, [nowhere if vector is None else vector for vector in placed], len(ids))
        new_content = {each.name: _content(each, items) for each in release.modalities}
        content = {}
        for name, (new_vectors, new_present) in new_content.items():
            mine, is_there = self.content[name]
            content[name] = _with(mine, at, new_vectors, len(ids)), _with(is_there, at, new_present, len(ids))
        compact = release.diversity.of(side_by_side(list(new_content.values()), len(items))[0])
        diversity = self.diversity if len(self) else np.empty((0, compact.shape[1]), np.int8)
        return Newcomers(
            ids=ids,
            place_of=place_of,
            vectors=vectors,
            content=content,
            diversity=_with(diversity, at, compact, len(ids)),
            unplaced_ids=unplaced_ids,
        )


def _lie_alike(item: LiveItem, before: LiveItem) -> bool:
    """Whether an item lies where it lay: nothing that the tower reads of it is different."""
    return (
        item.deleted == before.deleted
        and item.space_ids == before.space_ids
        and item.fields.get("categories") == before.fields.get("categories")
        and _own_tags(item.fields) == _own_tags(before.fields)
        and item.vectors.keys() == before.vectors.keys()
        and all(np.array_equal(vector, before.vectors[name]) for name, vector in item.vectors.items())
    )


def _own_tags(fields: Mapping[str, Any]) -> Any:
    """What an upsert says under `attributes.tags`."""
    attributes = fields.get("attributes")
    return attributes.get("tags") if isinstance(attributes, Mapping) else None


def _place_of(item: LiveItem, release: LoadedRelease) -> Floats | None:
    """float32 [D], from all content of the release's spaces; zeros (reachable by content and as a newcomer) without an
    item tower; None where the tower fails: one item stops no other."""
    if release.item_encoder is None or item.deleted:
        return np.zeros(release.item_vectors.shape[1], np.float32)
    content = {modality.name: _usable(item, modality) for modality in release.modalities}
    known = {name: vector for name, vector in content.items() if vector is not None}
    try:
        vector = release.item_encoder.encode_new(known, release.categories_of(item.fields))
    except ArtifactError:
        return None
    return vector if np.isfinite(vector).all() else None


def _content(modality: Modality, items: Sequence[LiveItem]) -> tuple[Floats, Mask]:
    """Content vectors float32 [len(items), D_m] and whether each is there."""
    vectors = np.zeros((len(items), modality.vectors.shape[1]), dtype=np.float32)
    present = np.zeros(len(items), dtype=np.bool_)
    for at, item in enumerate(items):
        vector = None if item.deleted else _usable(item, modality)
        if vector is not None:
            vectors[at], present[at] = vector, True
    return vectors, present


def _usable(item: LiveItem, modality: Modality) -> Floats | None:
    """The item's vector of that content, if it is of the release's embedding space, and sound."""
    vector = item.vectors.get(modality.name)
    if vector is None or item.space_ids.get(modality.name) != modality.space_id:
        return None
    return vector if vector.shape == modality.vectors.shape[1:] and np.isfinite(vector).all() else None


def _with(values: NDArray[Any], at: NDArray[np.int64], new: Any, n: int) -> NDArray[Any]:
    """A copy of `values`, `n` long, with `new` at these places."""
    out = np.empty((n, *values.shape[1:]), dtype=values.dtype)
    out[: len(values)] = values
    out[at] = new
    return out
