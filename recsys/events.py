"""The append-only records: what people did, what they were shown, what they saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from recsys.types import DEFAULT_EVENT_TYPE

SCHEMA_VERSION = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EventStatus = Literal["accepted", "duplicate", "rejected"]


def hash64(text: str) -> int:
    """uint64: the first 8 bytes of blake2b. Stands for an id where millions are kept in memory or in a store."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def user_hash(user_id: str) -> str:
    """128 bits of a user_id in hex: what stays of a user who was erased."""
    return hashlib.blake2b(user_id.encode(), digest_size=16, person=b"recsys-erased").hexdigest()


def micros_of(moment: datetime) -> int:
    """UTC microseconds since 1970, exact."""
    return (moment - EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Interaction:
    """Something a person did with an item. `event_id` makes a replay a duplicate.

    `recommendation_id` and `position` join it to the exposure that led to it.
    """

    event_id: str
    user_id: str
    item_id: str
    occurred_at: datetime
    event_type: str = DEFAULT_EVENT_TYPE
    value: float | None = None
    recommendation_id: str | None = None
    position: int | None = None
    context: Mapping[str, Any] = field(default_factory=dict)

    @property
    def occurred_at_ms(self) -> int:
        # Integer arithmetic: through a float, a quarter of the milliseconds of 2004 come out one too small.
        return (self.occurred_at - EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Exposure:
    """The server's record of a slate served. `context` is what the client said of the moment."""

    recommendation_id: str
    user_id: str | None
    session_id: str | None
    occurred_at: datetime
    release: str
    item_ids: tuple[str, ...]
    propensities: tuple[float, ...]
    sources: tuple[str, ...]
    variants: Mapping[str, str] = field(default_factory=dict)
    surface: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Impression:
    """The client's report that one item of a slate was seen."""

    event_id: str
    recommendation_id: str
    item_id: str
    position: int
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class UserMerge:
    """An anonymous user became a known one. The log keeps the source's events under the source's id; whoever reads it
    takes those of up to `merged_at` for the target's."""

    source_user_id: str
    target_user_id: str
    merged_at: datetime


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What was erased of a user and of all that were merged into them; it never holds their id.

    Attributes:
        user_hash: `user_hash` of the user_id.
        erased_at: nothing that happened up to then comes back: see `FeatureStore.erase_user`.
        n_states: states: history, seen, blocked.
        n_served: users of whom there was something that they were served lately.
        n_events: interactions taken out of the log, each with the mark that made its replay a duplicate.
        n_exposures: exposures taken out of the log.
        n_merges: records of merges that named them.
        not_erased: what still holds something of them, and when it goes; one sentence each.
    """

    user_hash: str
    erased_at: datetime
    n_states: int = 0
    n_served: int = 0
    n_events: int = 0
    n_exposures: int = 0
    n_merges: int = 0
    not_erased: tuple[str, ...] = ()

    def and_not(self, *sentences: str) -> ErasureReceipt:
        """The receipt that names these too: what the caller knows of and the store does not, as exported files."""
        return replace(self, not_erased=(*self.not_erased, *sentences))


@dataclass(frozen=True, slots=True)
class SpoolRange:
    """Where a batch of exposures lies in a spool: bytes `start` to `end` of all that `spool_id` ever held."""

    spool_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StoredExposures:
    """What became of a batch of exposures.

    Attributes:
        until: the byte of the spool up to which the store has it; 0 for a batch from no spool.
        n_stored: those written now.
        n_dropped: those of users who were erased after them.
    """

    until: int
    n_stored: int
    n_dropped: int
