"""A release as the service holds it: everything that was checked together, loaded and ready.

Letters: N items of the release, M items upserted since, D width of item and query vectors, C categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from recsys.catalog import category_names_of
from recsys.config import Config
from recsys.dataset import Modality
from recsys.events import hash64
from recsys.expressions.columns import ItemColumns
from recsys.features.blend import Blend
from recsys.features.category_lists import CategoryLists
from recsys.features.diversity import Diversity, diversity_of
from recsys.features.kinds import Kinds
from recsys.features.transitions import Neighbours
from recsys.item_objects import ItemObjects
from recsys.item_template import FIRST_TEMPLATE
from recsys.manifest import EmbeddingSpace, ReleaseManifest
from recsys.ports import ContentEncoder, ItemEncoder, ItemIndex, QueryEncoder, Ranker
from recsys.tag_details import TagDetails
from recsys.tags import covered_by
from recsys.vocabulary import Vocabulary


class ServingSchema(Config):
    """`serving.json` of a release: what its arrays mean.

    Attributes:
        vocabulary_checksum: of the item ids in `items.parquet`, in order.
        event_type_names: name of each event type code; code 0 stands for any other.
        category_names: `C` names, the columns of the category input of the item tower.
        modalities: names of the content vectors, in the item tower's order.
        index: the planner's choice, for people.
        history_window, history_decay: how `Neighbours` reads a history.
        blend: weights of the ranking formula, fitted on validation.
        max_history: how many of the latest interactions the query tower reads.
        has_towers: False for a release built before any behaviour was there.
        text_template: how the items' texts were put together; new items are put into the same words.
        ranker_features: columns that the ranker reads, in order (`recsys.features.rank_features`).
        ranker_outputs: names of the probabilities it gives; both are empty in a release without a ranker.
        objects_space: the embedding space of the objects in the items' pictures; None where nobody looked for any.
        tag_heads: head → the tags that it can give, with those that they imply; empty where nothing was ever tagged.
        tag_reads: head → the kinds of content that it judges by; where it is not named, `recsys.tags.looks_at`.
    """

    vocabulary_checksum: str
    event_type_names: tuple[str, ...]
    category_names: tuple[str, ...]
    modalities: tuple[str, ...]
    index: str
    history_window: int
    history_decay: float
    blend: Blend
    max_history: int
    has_towers: bool
    text_template: str = FIRST_TEMPLATE
    ranker_features: tuple[str, ...] = ()
    ranker_outputs: tuple[str, ...] = ()
    objects_space: EmbeddingSpace | None = None
    tag_heads: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    tag_reads: dict[str, tuple[str, ...]] = Field(default_factory=dict)


@dataclass(frozen=True)
class IdVectors:
    """What the item tower knows of the release's items by behaviour alone.

    Attributes:
        vectors: float32 [N, D].
        present: bool [N], False for an item that no training interaction had.
    """

    vectors: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class LoadedRelease:
    """One release in memory.

    Attributes:
        items: the catalogue columns (see `recsys.catalog`), row = item_row.
        item_vectors: float32 [N, D].
        modalities: content vectors by modality, float32 [N, D_m].
        log_popularity: float32 [N], log(1 + interactions).
        popular_rows: int64 [N], rows by falling popularity (ties by row).
        profile_hashes: uint64 [P], sorted `hash64` of the users who have a profile.
        profiles: float32 [P, D_text], their text vectors.
        query_encoder, item_encoder: None for a release without towers.
        content_encoder: pictures and words to vectors; None where the release carries no encoders.
        content_indexes: search over the content vectors, by modality.
        ranker: probabilities of each candidate; None where the release ranks by its blend.
        stored_diversity: compact content vectors as the release carries them; None in one that was built without.
        id_vectors: for explanations; None in a release without towers, or one that was built without them.
        objects: what a detector saw in the items' pictures; None where nobody looked.
        tag_details: who says which tag of an item, and on what grounds; None where nothing was ever tagged.
    """

    manifest: ReleaseManifest
    schema: ServingSchema
    vocabulary: Vocabulary
    items: pa.Table
    item_vectors: NDArray[np.float32]
    modalities: tuple[Modality, ...]
    index: ItemIndex
    neighbours: Neighbours
    log_popularity: NDArray[np.float32]
    popular_rows: NDArray[np.int64]
    profile_hashes: NDArray[np.uint64]
    profiles: NDArray[np.float32]
    query_encoder: QueryEncoder | None
    item_encoder: ItemEncoder | None
    content_encoder: ContentEncoder | None
    content_indexes: Mapping[str, ItemIndex] = field(default_factory=dict)
    ranker: Ranker | None = None
    stored_diversity: Diversity | None = None
    id_vectors: IdVectors | None = None
    objects: ItemObjects | None = None
    tag_details: TagDetails | None = None

    @cached_property
    def diversity(self) -> Diversity:
        """What slates are compared by; computed once for a release that does not carry it."""
        return self.stored_diversity or diversity_of(self.modalities, self.n_items)

    @cached_property
    def kinds(self) -> Kinds:
        """Codes of what items have in common, for caps."""
        return Kinds(self.items)

    @property
    def release_id(self) -> str:
        return self.manifest.release_id

    @cached_property
    def n_items(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def titles(self) -> list[str | None]:
        """The titles of all rows, as strings: one look-up in the table costs more than all else that a reason does."""
        titles: list[str | None] = self.items["title"].to_pylist()
        return titles

    @cached_property
    def category_lists(self) -> CategoryLists:
        """What each category's most popular items are, and which categories an item has."""
        return CategoryLists.of(self.items["categories"], self.log_popularity)

    @cached_property
    def cold_rows(self) -> NDArray[np.int64]:
        """int64, the rows that nobody has interacted with."""
        return np.flatnonzero(self.log_popularity == 0)

    @cached_property
    def columns(self) -> ItemColumns:
        """The catalogue's columns as filters read them."""
        return ItemColumns(self.items, self.schema.tag_heads, self.schema.tag_reads)

    @cached_property
    def covered_tags(self) -> frozenset[str]:
        """Those that some head can give: of each item it is known whether it has them, or that nobody can tell."""
        return covered_by(self.schema.tag_heads)

    def profile_of(self, user_id: str | None) -> NDArray[np.float32] | None:
        """float32 [D_text], what the user told about themselves, or None."""
        if user_id is None or not len(self.profile_hashes):
            return None
        wanted = np.uint64(hash64(user_id))
        at = int(np.searchsorted(self.profile_hashes, wanted))
        found = at < len(self.profile_hashes) and self.profile_hashes[at] == wanted
        return self.profiles[at] if found else None

    def event_type_code(self, name: str) -> int:
        """The code the query tower learned for an event type; 0 for one it never saw."""
        names = self.schema.event_type_names
        return names.index(name) if name in names else 0

    def categories_of(self, fields: Mapping[str, Any]) -> NDArray[np.bool_]:
        """bool [C] of an item's categories and tags; unknown ones are dropped. `fields` of an upsert say nothing of
        the tags that the release knows: `CatalogView.fields` does."""
        tags = fields.get("tags")
        if not isinstance(tags, list | tuple):
            tags = self.columns.upserted_tags(self.n_items, fields)
        mine = category_names_of(fields.get("categories"), tags)
        return np.array([name in mine for name in self.schema.category_names], dtype=np.bool_)
