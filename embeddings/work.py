"""THE shard function: the prepared contents of one shard → its rows. Every engine runs this one.

No batch crosses a shard, and a shard's batches depend on nothing but its contents: whoever encodes it gets the same
bytes, given the same arithmetic (`ShardMarker.compute`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.batching import BatchLimits, batches
from embeddings.contents import Candidate
from embeddings.encoder import Encoder
from embeddings.ledger import SameFeatures
from embeddings.prepare import Prepared
from embeddings.preprocess.features import Features
from embeddings.refused import NOT_HAD, Refused
from embeddings.shards import NewShard, ShardRows, records_array

NOT_FINITE = "the encoder gives no finite vector for it"
FEATURES_HASH_BYTES = 16

_Vector = NDArray[Any]  # float16 [D], or the bytes of a record


@dataclass
class Encoded:
    """One shard and what it took.

    Attributes:
        n_encoded: contents that went through the device.
        n_same: contents that look to the encoder exactly like another one, and share its vector.
        device_s: seconds in which the device, or the wait for it, was all that there was to do.
        starved_s: seconds in which the device waited for prepared contents.
    """

    shard: NewShard
    n_encoded: int
    n_same: int
    device_s: float
    starved_s: float


def encode_shard(
    prepared: Iterable[Prepared],
    encoder: Encoder,
    *,
    limits: BatchLimits,
    earlier: SameFeatures | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Encoded:
    """Encode the contents of one shard, in order; those refused are recorded with their reasons.

    Args:
        earlier: vectors of earlier shards, by what the encoder saw.
        on_batch: told how many contents each finished batch had.
    """
    started = time.perf_counter()
    shard = _Shard(hashed=encoder.space.modality != "text", earlier=earlier)
    order: list[int] = []
    groups: Iterable[list[Features]] = _groups(shard.unique(prepared), limits.max_items)
    if encoder.space.modality == "text":
        texts = list(shard.unique(prepared))
        by_length = batches(texts, limits)
        order = [position for batch in by_length for position in batch]
        groups = ([texts[position] for position in batch] for batch in by_length)
    parts = [_as_stored([], encoder)]
    for outputs in encoder.forward_many(groups):
        parts.append(_as_stored(outputs, encoder))
        if on_batch:
            on_batch(len(outputs))
    found = np.concatenate(parts)
    if order:
        found[order] = found.copy()
    elapsed_s = time.perf_counter() - started
    return Encoded(
        shard.finished(found, encoder),
        n_encoded=len(found),
        n_same=len(shard.rows) - len(found),
        device_s=elapsed_s - shard.starved_s,
        starved_s=shard.starved_s,
    )


def plan_of(content_hashes: Iterable[bytes]) -> str:
    """Fingerprint of the contents of a shard, in their order."""
    return hashlib.sha256(b"".join(content_hashes)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Row:
    """A content of the shard; its vector is `vector`, or number `place` of those encoded here."""

    candidate: Candidate
    features_hash: bytes | None
    place: int
    vector: _Vector | None


@dataclass
class _Shard:
    hashed: bool
    earlier: SameFeatures | None
    rows: list[_Row] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    unread: dict[str, tuple[str, str]] = field(default_factory=dict)
    places: dict[bytes, int] = field(default_factory=dict)
    starved_s: float = 0.0

    def unique(self, prepared: Iterable[Prepared]) -> Iterator[Features]:
        """The features that must be encoded, in order; notes every content on the way."""
        waiting_since = time.perf_counter()
        n_unique = 0
        for candidate, features in prepared:
            self.starved_s += time.perf_counter() - waiting_since
            self.contents.append(candidate.content_hash)
            if isinstance(features, Refused) and features.reason in NOT_HAD:
                self.unread[candidate.content_hash.hex()] = (features.reason, str(features))
            elif isinstance(features, Refused):
                self.refused[candidate.content_hash.hex()] = (features.reason, str(features))
            else:
                features_hash = hash_features(features) if self.hashed else None
                place = self.places.get(features_hash) if features_hash else None
                known = self.earlier.get(features_hash) if features_hash and self.earlier and place is None else None
                if place is None and known is None:
                    place, n_unique = n_unique, n_unique + 1
                    if features_hash:
                        self.places[features_hash] = place
                    self.rows.append(_Row(candidate, features_hash, place, None))
                    yield features
                else:
                    self.rows.append(_Row(candidate, features_hash, -1 if place is None else place, known))
            waiting_since = time.perf_counter()
        self.starved_s += time.perf_counter() - waiting_since

    def finished(self, found: _Vector, encoder: Encoder) -> NewShard:
        vectors = [found[row.place] if row.vector is None else row.vector for row in self.rows]
        good = [
            number for number, vector in enumerate(vectors) if isinstance(vector, bytes) or np.isfinite(vector).all()
        ]
        for number in set(range(len(vectors))) - set(good):
            self.refused[self.rows[number].candidate.content_hash.hex()] = ("not_finite", NOT_FINITE)
        rows = [self.rows[number] for number in good]
        shard_rows = ShardRows(
            [row.candidate.item_id for row in rows],
            [row.candidate.content_hash.hex() for row in rows],
            _as_stored([vectors[number] for number in good], encoder),
            [row.features_hash.hex() if row.features_hash else None for row in rows],
        )
        return NewShard(shard_rows, plan_of(self.contents), encoder.compute, self.refused, self.unread)


def _as_stored(outputs: Sequence[Any] | NDArray[Any], encoder: Encoder) -> NDArray[Any]:
    """float16 [R, D]; object [R] of bytes in a space of records."""
    if encoder.space.holds_records:
        return records_array(list(outputs))
    return np.asarray(outputs, np.float16).reshape(len(outputs), encoder.space.dim)


def hash_features(features: Features) -> bytes:
    """What the encoder sees, as 16 bytes: equal for a picture and its copy with other metadata."""
    shape = repr((features.dtype.str, features.shape)).encode()
    digest = hashlib.sha256(shape)
    digest.update(np.ascontiguousarray(features).data)
    return digest.digest()[:FEATURES_HASH_BYTES]


def _groups(features: Iterator[Features], size: int) -> Iterator[list[Features]]:
    group: list[Features] = []
    for each in features:
        group.append(each)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
