"""What is encoded already: content hash → shard and row, for one embedding space.

Nothing of its own lies on disk: it is rebuilt from the committed shards, so it can never disagree with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embeddings.shards import ShardStore

Place = tuple[int, int]
"""(shard, row)."""


@dataclass(frozen=True)
class Ledger:
    """Attributes:
    places: content hash → where its vector lies.
    unusable: hashes of contents that this encoder cannot give a finite vector for.
    """

    places: Mapping[str, Place]
    unusable: frozenset[str]

    @classmethod
    def of(cls, store: ShardStore) -> Ledger:
        """Raises MissingArtifact, CorruptArtifact or SpaceMismatch as reading the shards does."""
        places: dict[str, Place] = {}
        for shard, entry in enumerate(store.manifest.shards):
            for row, content_hash in enumerate(store.hashes(entry)):
                places.setdefault(content_hash, (shard, row))
        unusable = (content_hash for entry in store.manifest.shards for content_hash in entry.unusable)
        return cls(places, frozenset(unusable))

    def __contains__(self, content_hash: str) -> bool:
        return content_hash in self.places or content_hash in self.unusable

    def missing(self, content_hashes: Iterable[str]) -> list[str]:
        """Those that are not encoded yet, in the order given."""
        return [content_hash for content_hash in content_hashes if content_hash not in self]
