"""The snapshot of the catalogue that a request looks at.

A `CatalogView` is immutable; each change makes a new one, and a request keeps the one it began with. Rows 0..N-1 are
the release's, rows N..N+M-1 are items that came after it, deleted ones among them. An upsert of a release's item
changes what is said of it and whether it is shown, at once; its vectors change with the next release.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.expressions.overlay import Overlay
from recsys.features.diversity import UNIT, side_by_side
from recsys.live.availability import Availability
from recsys.live.layered import Layered
from recsys.live.newcomers import Newcomers
from recsys.live.searches import Searches
from recsys.live.unjudged import unjudged_content
from recsys.ports import ItemIndex, LiveItem
from recsys.release import LoadedRelease


@dataclass(frozen=True)
class CatalogView:
    """A snapshot. Arrays are over all N + M rows unless said otherwise; what did not change is shared with the snapshot
    before.

    Attributes:
        version: the store's item version it includes.
        item_hashes: uint64, `hash64` of each item_id.
        log_popularity: float32; 0 for items that came after the release.
        live_items: the upserts, by item_id.
        newcomers: the items of the rows N.. .
        overlay: the columns that filters read, with the upserts over them.
        lineage: the same object as long as rows mean the same items.
    """

    release: LoadedRelease
    version: int
    item_hashes: NDArray[np.uint64]
    log_popularity: NDArray[np.float32]
    live_items: Layered[str, LiveItem]
    newcomers: Newcomers
    availability: Availability
    overlay: Overlay
    searches: Searches
    lineage: object

    def __len__(self) -> int:
        return len(self.item_hashes)

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """See `Availability`."""
        return self.availability.hidden

    @property
    def index(self) -> ItemIndex:
        """Search over what is shown now: the release's index, the items that came after it, and no hidden ones."""
        return self.searches.index

    def content_index(self, name: str) -> ItemIndex | None:
        """Search over one kind of content of what is shown now; items without it are not found. None where the
        release has no such index."""
        return self.searches.content_index(name)

    def row(self, item_id: str) -> int | None:
        """None for an id that is unknown, or of an item that came after the release and was deleted."""
        row = self.release.vocabulary.row(item_id)
        if row is not None:
            return row
        place = self.newcomers.place_of.get(item_id)
        return None if place is None or self.live_items[item_id].deleted else self.release.n_items + place

    def rows(self, item_ids: Sequence[str]) -> list[int]:
        """The row of each id, -1 where `row` knows none."""
        rows = self.release.vocabulary.rows_or(item_ids, -1)
        if len(self.newcomers) and -1 in rows:
            return [self._live_row(each) if row < 0 else row for each, row in zip(item_ids, rows, strict=True)]
        return rows

    def _live_row(self, item_id: str) -> int:
        row = self.row(item_id)
        return -1 if row is None else row

    def item_id(self, row: int) -> str:
        n = self.release.n_items
        return self.release.vocabulary.item_ids[row] if row < n else self.newcomers.ids[row - n]

    def item_ids(self, rows: Sequence[int]) -> list[str]:
        """The ids of several rows."""
        if len(self.newcomers):
            return [self.item_id(row) for row in rows]
        ids = self.release.vocabulary.item_ids
        return [ids[row] for row in rows]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [len(rows), D], item vectors."""
        return _gather(self.release.item_vectors, self.newcomers.vectors, rows)

    def content(self, name: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Content vectors float32 [len(rows), D_m] of one modality and whether each is there."""
        modality = next(each for each in self.release.modalities if each.name == name)
        live_vectors, live_present = self.newcomers.content[name]
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
        if len(self.newcomers) and len(rows) and rows.max() >= len(vectors):
            vectors = _gather(vectors, self.newcomers.diversity, rows)
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
        """The catalogue fields of an item: the release's, and over them what was upserted; where the catalogue is
        tagged, `recsys.tags.TAG_COLUMNS` as filters read them."""
        live, columns = self.live_items.get(self.item_id(row)), self.release.columns
        if live is None:
            return self.released_fields(row)
        fields = {**self.released_fields(row), **live.fields}
        if columns.is_tagged:
            fields["tags"] = columns.upserted_tags(row, live.fields)
            fields["tags_unsure"] = columns.unsure_tags(row, self.unjudged(row))
        return fields

    def unjudged(self, row: int) -> tuple[str, ...]:
        """Kinds of an item's content that were upserted and that no head has looked at."""
        live = self.live_items.get(self.item_id(row))
        return () if live is None else unjudged_content(live, row, self.release)

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


def _gather(release_part: NDArray[Any], live_part: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    n = len(release_part)
    if not len(live_part) or not len(rows) or rows.max() < n:
        return release_part[rows]
    is_live = rows >= n
    out = np.empty((len(rows), *release_part.shape[1:]), dtype=release_part.dtype)
    out[~is_live] = release_part[rows[~is_live]]
    out[is_live] = live_part[rows[is_live] - n]
    return out
