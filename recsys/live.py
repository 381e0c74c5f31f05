"""The catalogue as it is now: a release's items plus everything upserted or deleted since.

A `CatalogView` is an immutable snapshot; each change makes a new one, and a request keeps the one it began with.
Rows 0..N-1 are the release's, rows N..N+M-1 are items that came after it, deleted ones among them. An upsert of a
release's item changes what is said of it and whether it is shown, at once; its vectors change with the next release.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.dataset import Modality
from recsys.errors import ArtifactError
from recsys.events import hash64
from recsys.expressions.overlay import ChangedRow, Overlay
from recsys.features.diversity import UNIT, side_by_side
from recsys.ports import ItemEncoder, ItemIndex, LiveItem
from recsys.quarantine import RowRefused
from recsys.release import LoadedRelease
from recsys.times import parse_time_ms

ALWAYS_MS = np.iinfo(np.int64).min
NEVER_MS = np.iinfo(np.int64).max


@dataclass(frozen=True)
class CatalogView:
    """A snapshot. Arrays are over all N + M rows unless said otherwise.

    Attributes:
        version: the store's item version it includes.
        item_hashes: uint64, `hash64` of each item_id.
        hidden: bool, hidden or deleted, or upserted with availability that cannot be read.
        available_from_ms, available_until_ms: int64 UTC milliseconds, with ALWAYS_MS and NEVER_MS for "no bound".
        log_popularity: float32; 0 for items that came after the release.
        live_items: the upserts, by item_id.
        live_ids: ids of the rows N.. .
        live_row_of: their rows by id, without those of deleted items.
        live_vectors: float32 [M, D], from the item tower without an id.
        live_content: modality → (float32 [M, D_m], bool [M] present).
        live_diversity: int8 [M, K], their compact content vectors (`recsys.features.diversity`).
        unplaced_ids: items that the item tower failed on: they have a vector of zeros.
    """

    release: LoadedRelease
    version: int
    item_hashes: NDArray[np.uint64]
    hidden: NDArray[np.bool_]
    available_from_ms: NDArray[np.int64]
    available_until_ms: NDArray[np.int64]
    log_popularity: NDArray[np.float32]
    live_items: Mapping[str, LiveItem]
    live_ids: tuple[str, ...]
    live_row_of: Mapping[str, int]
    live_vectors: NDArray[np.float32]
    live_content: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
    live_diversity: NDArray[np.int8]
    unplaced_ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.item_hashes)

    @cached_property
    def index(self) -> ItemIndex:
        """Search over what is shown now: the release's index, the items that came after it, and no hidden ones."""
        shown = ~self.hidden
        if not self.live_ids and shown.all():
            return self.release.index
        # An item without a place would be as near to every query as one that is unlike it.
        shown[self.release.n_items :] &= self.live_vectors.any(axis=1)
        return self.release.index.with_changes(self.live_vectors, shown)

    def content_index(self, name: str) -> ItemIndex | None:
        """Search over one kind of content of what is shown now; items without it are not found. None where the
        release has no such index."""
        index = self._content_indexes.get(name)
        of_release = self.release.content_indexes.get(name)
        if index is None and of_release is not None:
            present = next(each.present for each in self.release.modalities if each.name == name)
            live_vectors, live_present = self.live_content[name]
            shown = ~self.hidden & np.concatenate([present, live_present])
            index = self._content_indexes[name] = of_release.with_changes(live_vectors, shown)
        return index

    @cached_property
    def _content_indexes(self) -> dict[str, ItemIndex]:
        return {}

    @cached_property
    def some_start(self) -> bool:
        """Whether any item becomes available only at some time."""
        return bool((self.available_from_ms != ALWAYS_MS).any())

    @cached_property
    def some_end(self) -> bool:
        """Whether any item stops being available at some time."""
        return bool((self.available_until_ms != NEVER_MS).any())

    @cached_property
    def overlay(self) -> Overlay:
        """The columns that filters read, with the upserts over them."""
        n, row_of = self.release.n_items, self.release.vocabulary.row
        newcomers = ((n + at, item_id) for at, item_id in enumerate(self.live_ids))
        known = ((row, item_id) for item_id in self.live_items if (row := row_of(item_id)) is not None)
        changed = (ChangedRow(row, item_id, self.live_items[item_id].fields) for row, item_id in (*known, *newcomers))
        return Overlay(self.release.columns, changed, len(self))

    def row(self, item_id: str) -> int | None:
        row = self.release.vocabulary.row(item_id)
        return self.live_row_of.get(item_id) if row is None else row

    def item_id(self, row: int) -> str:
        n = self.release.n_items
        return self.release.vocabulary.item_ids[row] if row < n else self.live_ids[row - n]

    def item_ids(self, rows: Sequence[int]) -> list[str]:
        """The ids of several rows."""
        if self.live_ids:
            return [self.item_id(row) for row in rows]
        ids = self.release.vocabulary.item_ids
        return [ids[row] for row in rows]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [len(rows), D], item vectors."""
        return _gather(self.release.item_vectors, self.live_vectors, rows)

    def content(self, name: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Content vectors float32 [len(rows), D_m] of one modality and whether each is there."""
        modality = next(each for each in self.release.modalities if each.name == name)
        live_vectors, live_present = self.live_content[name]
        return _gather(modality.vectors, live_vectors, rows), _gather(modality.present, live_present, rows)

    def all_content(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """All modalities side by side, each masked where absent: float32 [len(rows), sum of D_m], bool any present.

        Each row with content has length 1, so that the inner product of two items with the same modalities is the mean
        of their cosines; a modality that neither has does not count, and one that only one has counts as unlike.
        """
        return side_by_side([self.content(each.name, rows) for each in self.release.modalities], len(rows))

    def diversity(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [len(rows), K]: compact content vectors, of length 1 (within 3 %) or 0 where there is no content.

        Their inner products stand for those of `all_content`, at a small part of the cost.
        """
        vectors = self.release.diversity.vectors
        if self.live_ids and len(rows) and rows.max() >= len(vectors):
            vectors = _gather(vectors, self.live_diversity, rows)
        else:
            vectors = vectors.take(rows, axis=0)
        return vectors * np.float32(1 / UNIT)

    def kinds(self, column: str, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """int32 [len(rows), G]: codes of what the items have in `categories`, a field or `attributes.NAME`, -1 where
        an item has fewer. Equal values have equal codes; G is as many as one of the release's items has."""
        release_kinds = self.release.kinds
        codes = release_kinds.of_rows(column, np.minimum(rows, self.release.n_items - 1))
        if self.live_items:
            for at, row in enumerate(rows.tolist()):
                if row >= self.release.n_items or self.item_id(row) in self.live_items:
                    codes[at] = release_kinds.of_fields(column, self.fields(row))
        return codes

    def fields(self, row: int) -> Mapping[str, Any]:
        """The catalogue fields of an item: the release's, and over them what was upserted."""
        live = self.live_items.get(self.item_id(row))
        return {**self.released_fields(row), **({} if live is None else live.fields)}

    def released_fields(self, row: int) -> Mapping[str, Any]:
        """The catalogue fields of an item as the release has them; none for one that came after it."""
        if row >= self.release.n_items:
            return {}
        columns = self.release.items
        return {name: columns[name][row].as_py() for name in columns.column_names}

    def title(self, row: int) -> str:
        live = self.live_items.get(self.item_id(row))
        if live is not None and (row >= self.release.n_items or "title" in live.fields):
            return str(live.fields.get("title") or "")
        return self.release.titles[row] or ""

    def name(self, row: int) -> str:
        """What people call an item: its title, else its id."""
        if not self.live_items:
            return self.release.titles[row] or self.item_id(row)
        return self.title(row) or self.item_id(row)


def view_of(release: LoadedRelease, live_items: Iterable[LiveItem] = (), version: int = 0) -> CatalogView:
    """The snapshot of a release with these upserts applied (each item once)."""
    return _view(release, {item.item_id: item for item in live_items}, version, {})


def updated(view: CatalogView, version: int, changes: Sequence[LiveItem]) -> CatalogView:
    """A new snapshot with these changes; the same one when there are none. The item tower runs for these alone."""
    if not changes:
        return view
    changed = {item.item_id: item for item in changes}
    again = changed.keys() | set(view.unplaced_ids)
    placed = {item_id: view.live_vectors[at] for at, item_id in enumerate(view.live_ids) if item_id not in again}
    compacted = {item_id: view.live_diversity[at] for at, item_id in enumerate(view.live_ids) if item_id not in changed}
    return _view(view.release, {**view.live_items, **changed}, version, placed, compacted)


def _view(
    release: LoadedRelease,
    by_id: Mapping[str, LiveItem],
    version: int,
    placed: Mapping[str, NDArray[np.float32]],
    compacted: Mapping[str, NDArray[np.int8]] | None = None,
) -> CatalogView:
    # In order of their first write, deleted ones too: a row once given stays, so that histories in rows stay right.
    newcomers = [item for item in by_id.values() if item.item_id not in release.vocabulary]
    live_row_of = {item.item_id: release.n_items + at for at, item in enumerate(newcomers)}
    hidden, from_ms, until_ms = _availability(release, by_id, live_row_of)
    live_vectors, unplaced_ids = _tower_vectors(release, newcomers, placed)
    live_content = {modality.name: _content(modality, newcomers) for modality in release.modalities}
    new_hashes = np.fromiter((hash64(item.item_id) for item in newcomers), np.uint64, count=len(newcomers))
    return CatalogView(
        release=release,
        version=version,
        item_hashes=np.concatenate([release.vocabulary.hashes, new_hashes]),
        hidden=hidden,
        available_from_ms=from_ms,
        available_until_ms=until_ms,
        log_popularity=_padded(release.log_popularity, len(newcomers), 0),
        live_items=by_id,
        live_ids=tuple(live_row_of),
        live_row_of={item.item_id: live_row_of[item.item_id] for item in newcomers if not item.deleted},
        live_vectors=live_vectors,
        live_content=live_content,
        live_diversity=_live_diversity(release, live_content, newcomers, compacted or {}),
        unplaced_ids=unplaced_ids,
    )


def _availability(
    release: LoadedRelease, by_id: Mapping[str, LiveItem], live_row_of: Mapping[str, int]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """hidden bool, from and until int64 milliseconds, each [N + M]. Times that cannot be read hide the item."""
    n_new = len(live_row_of)
    hidden = _padded(_flags(release, "hidden"), n_new, False)
    from_ms = _padded(_times(release, "available_from", ALWAYS_MS), n_new, ALWAYS_MS)
    until_ms = _padded(_times(release, "available_until", NEVER_MS), n_new, NEVER_MS)
    for item in by_id.values():
        row = release.vocabulary.row(item.item_id)
        row = live_row_of.get(item.item_id) if row is None else row
        if row is None:
            continue
        hidden[row] = item.deleted or bool(item.fields.get("hidden", hidden[row]))
        try:
            if "available_from" in item.fields:
                from_ms[row] = _time_ms(item, "available_from", ALWAYS_MS)
            if "available_until" in item.fields:
                until_ms[row] = _time_ms(item, "available_until", NEVER_MS)
        except RowRefused:
            hidden[row] = True
    return hidden, from_ms, until_ms


def _tower_vectors(
    release: LoadedRelease, newcomers: Sequence[LiveItem], placed: Mapping[str, NDArray[np.float32]]
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """float32 [M, D] and the ids it failed on; zeros (reachable by content and as newcomers) without an item tower."""
    vectors = np.zeros((len(newcomers), release.item_vectors.shape[1]), dtype=np.float32)
    unplaced: list[str] = []
    if release.item_encoder is None:
        return vectors, ()
    for at, item in enumerate(newcomers):
        vector = placed.get(item.item_id)
        if vector is None:
            vector = _tower_vector(release, release.item_encoder, item)
        if vector is None:
            unplaced.append(item.item_id)
        else:
            vectors[at] = vector
    return vectors, tuple(unplaced)


def _tower_vector(release: LoadedRelease, encoder: ItemEncoder, item: LiveItem) -> NDArray[np.float32] | None:
    """float32 [D], from all content of the release's spaces; None where the tower fails: one item stops no other."""
    content = {modality.name: _usable(item, modality) for modality in release.modalities}
    known = {name: vector for name, vector in content.items() if vector is not None}
    try:
        vector = encoder.encode_new(known, release.categories_of(item.fields))
    except ArtifactError:
        return None
    return vector if np.isfinite(vector).all() else None


def _content(modality: Modality, newcomers: Sequence[LiveItem]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Content vectors float32 [M, D_m] and whether each is there, bool [M]."""
    vectors = np.zeros((len(newcomers), modality.vectors.shape[1]), dtype=np.float32)
    present = np.zeros(len(newcomers), dtype=np.bool_)
    for at, item in enumerate(newcomers):
        vector = _usable(item, modality)
        if vector is not None:
            vectors[at], present[at] = vector, True
    return vectors, present


def _live_diversity(
    release: LoadedRelease,
    live_content: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
    newcomers: Sequence[LiveItem],
    compacted: Mapping[str, NDArray[np.int8]],
) -> NDArray[np.int8]:
    """int8 [M, K]; `compacted` are those that are known."""
    if not newcomers:
        return np.empty((0, 0), np.int8)
    vectors = np.empty((len(newcomers), release.diversity.vectors.shape[1]), dtype=np.int8)
    is_known = np.array([item.item_id in compacted for item in newcomers], dtype=np.bool_)
    for at in np.flatnonzero(is_known).tolist():
        vectors[at] = compacted[newcomers[at].item_id]
    others = np.flatnonzero(~is_known)
    parts = [(content[others], present[others]) for content, present in live_content.values()]
    vectors[others] = release.diversity.of(side_by_side(parts, len(others))[0])
    return vectors


def _usable(item: LiveItem, modality: Modality) -> NDArray[np.float32] | None:
    """The item's vector of that content, if it is of the release's embedding space, and sound."""
    vector = item.vectors.get(modality.name)
    if vector is None or item.space_ids.get(modality.name) != modality.space_id:
        return None
    return vector if vector.shape == modality.vectors.shape[1:] and np.isfinite(vector).all() else None


def _gather(release_part: NDArray[Any], live_part: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    n = len(release_part)
    if not len(live_part) or not len(rows) or rows.max() < n:
        return release_part[rows]
    is_live = rows >= n
    out = np.empty((len(rows), *release_part.shape[1:]), dtype=release_part.dtype)
    out[~is_live] = release_part[rows[~is_live]]
    out[is_live] = live_part[rows[is_live] - n]
    return out


def _padded(values: NDArray[Any], n_new: int, fill: Any) -> NDArray[Any]:
    return np.concatenate([values, np.full(n_new, fill, dtype=values.dtype)])


def _flags(release: LoadedRelease, name: str) -> NDArray[np.bool_]:
    return np.asarray(pc.fill_null(release.items[name], False), dtype=np.bool_)


def _times(release: LoadedRelease, name: str, when_absent: int) -> NDArray[np.int64]:
    column = pc.cast(pc.cast(release.items[name], pa.timestamp("ms", "UTC")), pa.int64())
    return np.asarray(pc.fill_null(column, when_absent), dtype=np.int64)


def _time_ms(item: LiveItem, name: str, when_absent: int) -> int:
    milliseconds = parse_time_ms(item.fields.get(name), name)
    return when_absent if milliseconds is None else milliseconds
