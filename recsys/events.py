"""The append-only records: what people did, what they were shown, what they saw."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from recsys.types import DEFAULT_EVENT_TYPE

SCHEMA_VERSION = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EventStatus = Literal["accepted", "duplicate"]


def hash64(text: str) -> int:
    """uint64: the first 8 bytes of blake2b. Stands for an id where millions are kept in memory or in a store."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


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
    """The server's record of a slate served."""

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


@dataclass(frozen=True, slots=True)
class Impression:
    """The client's report that one item of a slate was seen."""

    event_id: str
    recommendation_id: str
    item_id: str
    position: int
    occurred_at: datetime
