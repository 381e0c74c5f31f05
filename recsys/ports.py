"""What the recommender needs from the world. Adapters live in storage/, index/ and inference/; bootstraps join them.

What it needs of stores stands in `recsys.store_ports`, and is named here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.manifest import ReleaseManifest
from recsys.store_ports import (
    MAX_STORED_HISTORY,
    MAX_STORED_SERVED,
    EventLog,
    FeatureStore,
    LiveItem,
    PackedState,
    RequestStore,
    StateReader,
    Store,
    UserState,
)

__all__ = [
    "MAX_STORED_HISTORY",
    "MAX_STORED_SERVED",
    "Allowed",
    "AllowedRows",
    "BucketDraw",
    "ContentEncoder",
    "Drawn",
    "EventLog",
    "FeatureStore",
    "ItemEncoder",
    "ItemIndex",
    "LiveItem",
    "PackedState",
    "QueryEncoder",
    "RankFeatures",
    "Ranker",
    "ReleaseFiles",
    "ReleaseStore",
    "RequestStore",
    "SearchWay",
    "SharedBuckets",
    "StateReader",
    "Store",
    "UserState",
]


class AllowedRows:
    """The item rows that a search may answer with, prepared once for any number of searches.

    `mask` bool [N], `rows` int64 [A] ascending and `bits` uint8 [ceil(N / 8)] (row r is bit r % 8 of byte r // 8) say
    the same; each is made when it is first asked for.
    """

    def __init__(self, allowed: NDArray[np.bool_] | NDArray[np.int64], n_items: int) -> None:
        """From a mask bool [N], or from distinct rows int64 [A] in any order.

        Raises:
            ValueError: a mask of another length, rows outside of 0..N-1, or a row given twice.
        """
        self.n_items = n_items
        if allowed.dtype == np.bool_:
            if allowed.shape != (n_items,):
                raise ValueError(f"a mask of allowed rows must have the shape ({n_items},), not {allowed.shape}")
            self.mask = np.asarray(allowed, dtype=np.bool_)
            self.n_allowed = int(np.count_nonzero(allowed))
            return
        rows = np.sort(np.asarray(allowed, dtype=np.int64))
        if len(rows) and (rows[0] < 0 or rows[-1] >= n_items):
            raise ValueError(f"allowed rows must lie in 0..{n_items - 1}, not {rows[0]}..{rows[-1]}")
        if (rows[1:] == rows[:-1]).any():
            raise ValueError("allowed rows must be distinct: take numpy.unique of them")
        self.rows = rows
        self.n_allowed = len(rows)

    @staticmethod
    def of(allowed: Allowed, n_items: int) -> AllowedRows:
        """The same object where it was prepared already. Raises ValueError when it is of another number of items."""
        if not isinstance(allowed, AllowedRows):
            return AllowedRows(allowed, n_items)
        if allowed.n_items != n_items:
            raise ValueError(f"the allowed rows are of {allowed.n_items} items, and the index has {n_items}")
        return allowed

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        mask = np.zeros(self.n_items, dtype=np.bool_)
        mask[self.rows] = True
        return mask

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.mask)

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        return np.packbits(self.mask, bitorder="little")


Allowed = NDArray[np.bool_] | NDArray[np.int64] | AllowedRows

SearchWay = Literal["unfiltered", "exact_subset", "selector", "overfetch"]
"""How an index keeps to the allowed rows: it need not; it compares these alone; it leaves the others out as it sweeps;
or it fetches more and drops them."""


class ItemIndex(Protocol):
    """Search over item vectors by inner product; the larger the closer."""

    @property
    def n_items(self) -> int: ...

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Allowed | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Item rows int64 [B, k'] and similarities float32 [B, k'], best first; never a -1, no row twice in a line.

        k' = min(k, n_items), or min(k, number of allowed rows): a filter never makes the answer shorter than that.

        Args:
            queries: float32 [B, D].
            allowed: mask bool [N] or distinct rows; None = all. `AllowedRows` spares preparing one filter many times.
        """
        ...

    def search_way(self, k: int, allowed: Allowed | None = None) -> SearchWay:
        """The way that `search` takes to these, for a trace: chosen by cost, among ways that keep the recall."""
        ...

    def search_within(
        self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same for one query float32 [D] over the given rows only, exactly; a row given twice is answered once."""
        ...

    def with_changes(self, added: NDArray[np.float32], shown: NDArray[np.bool_]) -> ItemIndex:
        """A snapshot: these vectors float32 [M, D] as rows N..N+M-1, and only rows that `shown` bool [N + M] names.

        Made in O(N) without copying vectors; this index stays as it is. The next build holds the added vectors and
        no hidden ones.
        """
        ...


class QueryEncoder(Protocol):
    """The query tower at request time."""

    @property
    def dim(self) -> int: ...

    def encode(
        self,
        history: NDArray[np.float32],
        event_types: NDArray[np.int64],
        user_text: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """One query: item vectors of its history float32 [T, D] (oldest first, T may be 0), event type codes
        int64 [T], the profile's text vector float32 [P] or None. Returns float32 [D]."""
        ...

    def encode_many(
        self,
        histories: NDArray[np.float32],
        event_types: NDArray[np.int64],
        lengths: NDArray[np.int64],
        user_text: NDArray[np.float32] | None = None,
        reads_text: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float32]:
        """Many queries of one user in one call: histories float32 [B, T, D] and event types int64 [B, T], padded on
        the right to T (which may be 0), of `lengths` int64 [B]; the profile's text vector float32 [P] or None, and
        which queries read it, bool [B] (None = all). Returns float32 [B, D]. Raises ArtifactError when it fails."""
        ...


class ItemEncoder(Protocol):
    """The item tower at request time, for items that came after training."""

    def encode_new(
        self, vectors: Mapping[str, NDArray[np.float32]], categories: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """One item without an id row: content vector per modality float32 [D_m] (absent = masked) and categories
        bool [C]. Returns float32 [D] in the space of the item vectors."""
        ...

    def encode_batch(
        self,
        id_vectors: NDArray[np.float32],
        id_mask: NDArray[np.bool_],
        modalities: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]],
        categories: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """`B` items: id vectors float32 [B, d] and bool [B] where there is one, each modality's vectors float32
        [B, D_m] and bool [B], categories bool [B, C]. What is masked or not given counts as unknown. Returns
        float32 [B, D]. Raises ArtifactError when it fails."""
        ...


class Ranker(Protocol):
    """The learned ranker at request time: what people would do with each candidate, as calibrated probabilities."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns it reads, in order, of `recsys.features.rank_features`."""
        ...

    @property
    def output_names(self) -> tuple[str, ...]:
        """The probabilities it gives, such as `p_click`."""
        ...

    @property
    def query_dim(self) -> int:
        """Width of the query vector that it reads too; 0 where it reads none."""
        ...

    def predict(
        self, features: NDArray[np.float32], query: NDArray[np.float32] | None = None
    ) -> Mapping[str, NDArray[np.float32]]:
        """Features float32 [C, F] (and the query vector float32 [Q], None = zeros) to float32 [C] for each output.

        Raises ArtifactError when it fails, or gives what is no number."""
        ...


class ContentEncoder(Protocol):
    """Pictures, words and sounds to vectors, at request time (no torch)."""

    def encode_image(self, data: bytes) -> NDArray[np.float32]:
        """One picture's file bytes to float32 [D]. Raises InvalidRequest when it is no picture."""
        ...

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """One text to float32 [D]."""
        ...

    def encode_audio(self, data: bytes) -> NDArray[np.float32]:
        """One sound file's bytes to float32 [D]. Raises InvalidRequest when it is no sound."""
        ...

    @property
    def space_ids(self) -> Mapping[str, str]:
        """modality → embedding space, for the modalities that this release can encode."""
        ...


class ReleaseFiles(Protocol):
    """The files of releases, for reading."""

    def manifest(self, release_id: str) -> ReleaseManifest:
        """Raises MissingArtifact."""
        ...

    def open(self, manifest: ReleaseManifest, name: str, *, verify: bool = True) -> Path:
        """Path of one file, its checksum verified. Raises MissingArtifact or CorruptArtifact."""
        ...


class ReleaseStore(ReleaseFiles, Protocol):
    """Where releases lie and which one is current."""

    def put(self, files: Mapping[str, Path], manifest: ReleaseManifest) -> None:
        """Copy files in (those already there by content are shared) and write the manifest last."""
        ...

    def list(self) -> list[str]:
        """Release ids, oldest first."""
        ...

    def current(self) -> str | None:
        """The published release; None before the first. Raises CorruptArtifact (publishing mends it) or
        StoreUnavailable."""
        ...

    def last_known(self) -> str | None:
        """The release that was current when this machine last could ask; never waits for a network."""
        ...

    def previous(self) -> str | None:
        """The release that was current before this one."""
        ...

    def publish(self, release_id: str, *, expected: str | None = None) -> None:
        """Move the pointer: one atomic, durable step. Publishing the current release changes nothing.

        Args:
            expected: the release that was current when the caller looked ("" = none); None where it did not look.

        Raises:
            MissingArtifact: there is no such release, or a file of it is gone; the pointer stays.
            PublishedMeanwhile: another than `expected` is current, or became so while this ran; the pointer is theirs.
        """
        ...

    def hold(self, release_id: str) -> None:
        """This process serves from that release's files from now on, and no longer from those it held before: copies
        that no process of this machine needs may go."""
        ...


@dataclass(frozen=True, slots=True)
class RankFeatures:
    """What the ranking formula knows of the candidates; arrays float32 [C], or in evaluation [B, N].

    Attributes:
        similarity: the query vector's product with the item vector: a logit.
        transition: `recsys.features.transitions.Neighbours.score` of the history.
        log_popularity: log(1 + interactions).
        is_new: 1 for an item that came after the release, else 0; None = none did (training).
        tag_affinity: `recsys.features.tag_affinity` of the history; None where no ranker reads it.
    """

    similarity: NDArray[np.float32]
    transition: NDArray[np.float32]
    log_popularity: NDArray[np.float32]
    is_new: NDArray[np.float32] | None = None
    tag_affinity: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class BucketDraw:
    """What one worker asks of a token bucket that all workers share.

    Attributes:
        name: of the bucket.
        rate_per_s, burst: tokens that come in a second, and the most that there ever are.
        held: what this worker has left of its last draw; it goes back. Negative: it spent more than it had.
        want: tokens that it would take away now.
    """

    name: str
    rate_per_s: float
    burst: int
    held: int
    want: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """The answer to a `BucketDraw`: tokens taken away (at most those wanted), and tokens that are left for all."""

    granted: int
    left: float


class SharedBuckets(Protocol):
    """Token buckets that the workers of all hosts draw from.

    What is in a bucket and what its workers hold never exceeds its burst; a worker that draws no more loses what it
    holds after a while, and the bucket gets it back.
    """

    def draw(self, draws: Sequence[BucketDraw]) -> Sequence[Drawn]:
        """One step for all of them, in order. Raises StoreUnavailable."""
        ...

    def close(self) -> None: ...
