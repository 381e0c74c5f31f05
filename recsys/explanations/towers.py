"""The similarity when the towers see only a part: the id vectors (behaviour), or one kind of content.

Whoever is not in a coalition is masked in every item, those of the history as well: the item tower then puts what it
learned for "unknown" in its place, and the query tower reads the history of the items so made. Event types stay.
Categories and the user's profile are words, and belong to "text".

Letters: S coalitions, k players, U items, C candidates, T interactions, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalog import category_columns
from recsys.errors import ArtifactError, MissingArtifact
from recsys.explanations.shapley import coalitions
from recsys.history import History
from recsys.live import CatalogView
from recsys.ports import ItemEncoder
from recsys.release import LoadedRelease

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
BEHAVIOUR, TEXT = "behaviour", "text"
MAX_ITEM_CALLS = 8
"""Calls of the item tower for one slate: one a coalition while there are so few, several in one call beyond. Content
is then copied for those of one call only."""


def tower_players(release: LoadedRelease) -> tuple[str, ...]:
    """Behaviour, then each kind of content that the towers read."""
    content = set(release.schema.modalities)
    if release.schema.category_names or len(release.profile_hashes):
        content.add(TEXT)
    return (BEHAVIOUR, *sorted(content))


def similarity_by_coalition(rows: Rows, history: History, profile: Floats | None, catalog: CatalogView) -> Floats:
    """float32 [2**k, C], the similarity of each candidate row for each coalition of `tower_players`; its last line is
    what is served. At most `MAX_ITEM_CALLS` calls of the item tower and one of the query tower.

    Raises:
        MissingArtifact: the release carries no id vectors, or no towers.
        ArtifactError: a tower failed, or gave what is no number.
    """
    release = catalog.release
    if release.query_encoder is None or release.item_encoder is None:
        raise MissingArtifact("this release has no towers; run `recsys train` and `recsys release build`")
    players = tower_players(release)
    taking_part = coalitions(len(players))
    latest = slice(max(len(history) - release.schema.max_history, 0), None)
    past = history.rows[latest]
    distinct, places = np.unique(np.concatenate([rows, past]), return_inverse=True)
    vectors = _items_of(distinct, catalog).seen_by(taking_part, players, release.item_encoder)  # S x U x D
    n, n_past = len(taking_part), len(past)
    queries = release.query_encoder.encode_many(
        vectors[:, places[len(rows) :]],
        np.broadcast_to(history.event_types[latest], (n, n_past)),
        np.full(n, n_past, dtype=np.int64),
        profile,
        taking_part[:, players.index(TEXT)] if TEXT in players else None,
    )
    similarity = np.matmul(vectors[:, places[: len(rows)]], queries[:, :, None])[:, :, 0]
    if not np.isfinite(similarity).all():
        raise ArtifactError("a tower gave what is no number; run `recsys train` again")
    return np.asarray(similarity, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Items:
    """What the item tower reads of U items.

    Attributes:
        ids, id_mask: float32 [U, D] and bool [U].
        content: modality → float32 [U, D_m] and bool [U].
        categories: bool [U, number of categories].
        has_place: bool [U]; an item that the tower failed on when it came lies nowhere, whatever is known of it.
    """

    ids: Floats
    id_mask: Mask
    content: Mapping[str, tuple[Floats, Mask]]
    categories: Mask
    has_place: Mask

    def seen_by(self, taking_part: Mask, players: tuple[str, ...], tower: ItemEncoder) -> Floats:
        """float32 [S, U, D], the item vectors for each coalition bool [S, k]."""
        n_calls = min(MAX_ITEM_CALLS, len(taking_part))
        parts = [self._one_call(some, players, tower) for some in np.array_split(taking_part, n_calls)]
        vectors = np.concatenate(parts)
        vectors[:, ~self.has_place] = 0
        return vectors

    def _one_call(self, taking_part: Mask, players: tuple[str, ...], tower: ItemEncoder) -> Floats:
        n, n_items = len(taking_part), len(self.ids)

        def for_each(values: Floats) -> Floats:
            """float32 [S * U, W]: the same for each coalition; no copy where there is one."""
            return np.broadcast_to(values, (n, *values.shape)).reshape(n * n_items, values.shape[1])

        def masked(mask: Mask, player: str) -> Mask:
            """bool [S * U, ...]: what is left of a mask where the player takes part."""
            takes_part = taking_part[:, players.index(player)].reshape(n, *[1] * mask.ndim)
            return np.asarray(takes_part & mask).reshape(n * n_items, *mask.shape[1:])

        vectors = tower.encode_batch(
            for_each(self.ids),
            masked(self.id_mask, BEHAVIOUR),
            {name: (for_each(values), masked(mask, name)) for name, (values, mask) in self.content.items()},
            masked(self.categories, TEXT) if TEXT in players else np.zeros((n * n_items, 0), np.bool_),
        )
        return vectors.reshape(n, n_items, -1)


def _items_of(rows: Rows, catalog: CatalogView) -> _Items:
    """Items of the release as it was built with them, those that came after it as they were placed.

    Raises MissingArtifact where the release carries no id vectors.
    """
    release = catalog.release
    if release.id_vectors is None:
        raise MissingArtifact("the release has no id_vectors.npy; run `recsys release build` again")
    of_release = rows < release.n_items
    ids = np.zeros((len(rows), release.id_vectors.vectors.shape[1]), dtype=np.float32)
    id_mask = np.zeros(len(rows), dtype=np.bool_)
    ids[of_release] = release.id_vectors.vectors[rows[of_release]]
    id_mask[of_release] = release.id_vectors.present[rows[of_release]]
    return _Items(
        ids,
        id_mask,
        {each.name: catalog.content(each.name, rows) for each in release.modalities},
        _categories(rows, catalog),
        np.asarray(catalog.vectors(rows).any(axis=1)),
    )


def _categories(rows: Rows, catalog: CatalogView) -> Mask:
    """bool [U, number of categories], in the columns of the item tower."""
    release = catalog.release
    names = release.schema.category_names
    out = np.zeros((len(rows), len(names)), dtype=np.bool_)
    if not names:
        return out
    of_release = rows < release.n_items
    out[of_release] = category_columns(release.items.take(rows[of_release]), names)
    for at in np.flatnonzero(~of_release).tolist():
        out[at] = release.categories_of(catalog.fields(int(rows[at])))
    return out
