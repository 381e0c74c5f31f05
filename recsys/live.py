"""The catalogue as it is now: a release's items plus everything upserted or deleted since.

A `CatalogView` is an immutable snapshot; each change makes a new one, and a request keeps the one it began with.
Rows 0..N-1 are the release's, rows N..N+M-1 are items that came after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.events import hash64
from recsys.ports import LiveItem
from recsys.release import LoadedRelease

ALWAYS_MS = np.iinfo(np.int64).min
NEVER_MS = np.iinfo(np.int64).max


@dataclass(frozen=True)
class CatalogView:
    """A snapshot. Arrays are over all N + M rows unless said otherwise.

    Attributes:
        version: the store's item version it includes.
        item_hashes: uint64, `hash64` of each item_id.
        hidden: bool, hidden or deleted.
        available_from_ms, available_until_ms: int64 UTC milliseconds, with ALWAYS_MS and NEVER_MS for "no bound".
        log_popularity: float32; 0 for items that came after the release.
        live_items: the upserts, by item_id.
        live_ids: ids of the rows N.. .
        live_vectors: float32 [M, D], from the item tower without an id.
        live_content: modality → (float32 [M, D_m], bool [M] present).
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

    def __len__(self) -> int:
        return len(self.item_hashes)

    def row(self, item_id: str) -> int | None:
        row = self.release.vocabulary.row(item_id)
        return self.live_row_of.get(item_id) if row is None else row

    def item_id(self, row: int) -> str:
        n = self.release.n_items
        return self.release.vocabulary.item_ids[row] if row < n else self.live_ids[row - n]

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

        Rows are scaled so that the inner product of two of them is the mean cosine over the modalities.
        """
        present = np.zeros(len(rows), dtype=np.bool_)
        parts = []
        for modality in self.release.modalities:
            vectors, here = self.content(modality.name, rows)
            parts.append(np.where(here[:, None], vectors, 0).astype(np.float32))
            present |= here
        if not parts:
            return np.zeros((len(rows), 0), dtype=np.float32), present
        return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts))), present

    def fields(self, row: int) -> Mapping[str, Any]:
        """The catalogue fields of an item, as last upserted."""
        live = self.live_items.get(self.item_id(row))
        if live is not None:
            return live.fields
        return {name: self.release.items[name][row].as_py() for name in self.release.items.column_names}

    def title(self, row: int) -> str:
        live = self.live_items.get(self.item_id(row))
        if live is not None:
            return str(live.fields.get("title") or "")
        return self.release.items["title"][row].as_py() or ""


def view_of(release: LoadedRelease, live_items: Iterable[LiveItem] = (), version: int = 0) -> CatalogView:
    """The snapshot of a release with these upserts applied (each item once)."""
    by_id = {item.item_id: item for item in live_items}
    newcomers = [item for item in by_id.values() if item.item_id not in release.vocabulary and not item.deleted]
    n_new = len(newcomers)
    hidden = _padded(_flags(release, "hidden"), n_new, False)
    from_ms = _padded(_times(release, "available_from", ALWAYS_MS), n_new, ALWAYS_MS)
    until_ms = _padded(_times(release, "available_until", NEVER_MS), n_new, NEVER_MS)
    live_row_of = {item.item_id: release.n_items + at for at, item in enumerate(newcomers)}
    for item in by_id.values():
        row = release.vocabulary.row(item.item_id)
        row = live_row_of.get(item.item_id) if row is None else row
        if row is not None:
            hidden[row] = item.deleted or bool(item.fields.get("hidden"))
            from_ms[row] = _time_ms(item.fields.get("available_from"), ALWAYS_MS)
            until_ms[row] = _time_ms(item.fields.get("available_until"), NEVER_MS)
    new_hashes = np.fromiter((hash64(item.item_id) for item in newcomers), np.uint64, count=n_new)
    return CatalogView(
        release=release,
        version=version,
        item_hashes=np.concatenate([release.vocabulary.hashes, new_hashes]),
        hidden=hidden,
        available_from_ms=from_ms,
        available_until_ms=until_ms,
        log_popularity=_padded(release.log_popularity, n_new, 0),
        live_items=by_id,
        live_ids=tuple(live_row_of),
        live_row_of=live_row_of,
        live_vectors=_tower_vectors(release, newcomers),
        live_content={
            modality.name: _content(modality.name, modality.space_id, modality.vectors.shape[1], newcomers)
            for modality in release.modalities
        },
    )


def updated(view: CatalogView, version: int, changes: Sequence[LiveItem]) -> CatalogView:
    """A new snapshot with these changes; the same one when there are none."""
    if not changes:
        return view
    merged = dict(view.live_items)
    merged.update({item.item_id: item for item in changes})
    return view_of(view.release, merged.values(), version)


def _tower_vectors(release: LoadedRelease, newcomers: Sequence[LiveItem]) -> NDArray[np.float32]:
    """float32 [M, D]; zeros (reachable by popularity and similarity of content only) without an item tower."""
    vectors = np.zeros((len(newcomers), release.item_vectors.shape[1]), dtype=np.float32)
    if release.item_encoder is None:
        return vectors
    spaces = {modality.name: modality.space_id for modality in release.modalities}
    for at, item in enumerate(newcomers):
        known = {name: vector for name, vector in item.vectors.items() if item.space_ids.get(name) == spaces.get(name)}
        vectors[at] = release.item_encoder.encode_new(known, release.categories_of(item.fields))
    return vectors


def _content(
    name: str, space_id: str, dim: int, newcomers: Sequence[LiveItem]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    vectors = np.zeros((len(newcomers), dim), dtype=np.float32)
    present = np.zeros(len(newcomers), dtype=np.bool_)
    for at, item in enumerate(newcomers):
        if name in item.vectors and item.space_ids.get(name) == space_id:
            vectors[at], present[at] = item.vectors[name], True
    return vectors, present


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


def _time_ms(value: Any, when_absent: int) -> int:
    if value is None or value == "":
        return when_absent
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return int(moment.timestamp() * 1000)
