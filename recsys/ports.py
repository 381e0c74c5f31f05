"""What the recommender needs from the world. Adapters live in storage/, index/ and inference/; bootstraps join them.

What it needs of stores stands in `recsys.store_ports`, and is named here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.manifest import ReleaseManifest
from recsys.store_ports import (
    MAX_STORED_HISTORY as MAX_STORED_HISTORY,
)
from recsys.store_ports import (
    MAX_STORED_SERVED as MAX_STORED_SERVED,
)
from recsys.store_ports import (
    EventLog as EventLog,
)
from recsys.store_ports import (
    FeatureStore as FeatureStore,
)
from recsys.store_ports import (
    LiveItem as LiveItem,
)
from recsys.store_ports import (
    PackedState as PackedState,
)
from recsys.store_ports import (
    RequestStore as RequestStore,
)
from recsys.store_ports import (
    StateReader as StateReader,
)
from recsys.store_ports import (
    Store as Store,
)
from recsys.store_ports import (
    UserState as UserState,
)


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


class ItemEncoder(Protocol):
    """The item tower at request time, for items that came after training."""

    def encode_new(
        self, vectors: Mapping[str, NDArray[np.float32]], categories: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """One item without an id row: content vector per modality float32 [D_m] (absent = masked) and categories
        bool [C]. Returns float32 [D] in the space of the item vectors."""
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

    def current(self) -> str | None: ...

    def previous(self) -> str | None:
        """The release that was current before this one."""
        ...

    def publish(self, release_id: str) -> None:
        """Move the pointer: one atomic, durable step."""
        ...


@dataclass(frozen=True, slots=True)
class RankFeatures:
    """What the ranking formula knows of the candidates; arrays float32 [C], or in evaluation [B, N].

    Attributes:
        similarity: the query vector's product with the item vector: a logit.
        transition: `recsys.features.transitions.Neighbours.score` of the history.
        log_popularity: log(1 + interactions).
    """

    similarity: NDArray[np.float32]
    transition: NDArray[np.float32]
    log_popularity: NDArray[np.float32]
