"""What is encoded already, for one embedding space: content hash → place, and what the encoder saw → place.

Nothing of its own lies on disk: it is rebuilt from the committed shards, so it can never disagree with them. Hashes
are kept as bytes, because a catalogue has millions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from embeddings.shards import ShardRows, ShardStore

Place = tuple[int, int]
"""(shard, row)."""


@dataclass
class Ledger:
    """Attributes:
    places: content hash → where its vector lies.
    same_features: hash of an encoder's input → where its vector lies; contents that differ in bytes alone share it.
    refused: content hash → (reason, message), for contents that this encoder has no vector for.
    """

    places: dict[bytes, Place] = field(default_factory=dict)
    same_features: dict[bytes, Place] = field(default_factory=dict)
    refused: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: ShardStore) -> Ledger:
        """Raises MissingArtifact, CorruptArtifact or SpaceMismatch as reading the shards does."""
        ledger = cls()
        for shard in range(len(store.shards)):
            ledger.add(store, shard, *store.hashes(shard))
        return ledger

    def add(
        self,
        store: ShardStore,
        shard: int,
        content_hashes: Sequence[str],
        features_hashes: Sequence[str | None] | None,
    ) -> None:
        """Take up one committed shard. A content that was refused once and has a vector now is not refused."""
        for content_hash, (reason, message) in store.shards[shard].refused.items():
            self.refused[bytes.fromhex(content_hash)] = (reason, message)
        seen_as = features_hashes or [None] * len(content_hashes)
        for row, (content_hash, features_hash) in enumerate(zip(content_hashes, seen_as, strict=True)):
            content = bytes.fromhex(content_hash)
            self.places.setdefault(content, (shard, row))
            self.refused.pop(content, None)
            if features_hash is not None:
                self.same_features.setdefault(bytes.fromhex(features_hash), (shard, row))

    def __contains__(self, content_hash: bytes) -> bool:
        return content_hash in self.places or content_hash in self.refused


class SameFeatures:
    """Vectors of contents that look to the encoder like ones it has encoded: float16 [D] by features hash."""

    def __init__(self, ledger: Ledger, store: ShardStore) -> None:
        self._places = ledger.same_features
        self._store = store
        self._last: tuple[int, ShardRows] | None = None

    def get(self, features_hash: bytes) -> Any:
        """None, float16 [D], or the bytes of a record. Raises as `ShardStore.read` does."""
        place = self._places.get(features_hash)
        if place is None:
            return None
        shard, row = place
        if self._last is None or self._last[0] != shard:
            self._last = (shard, self._store.read(shard))
        return self._last[1].vectors[row]
