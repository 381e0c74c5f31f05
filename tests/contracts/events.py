"""Events to write in the suites, each with its own id and minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recsys.events import Exposure, Interaction, hash64
from recsys.types import HistoryItem

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOON_MS = 1_714_564_800_000
LATER = NOON + timedelta(days=1)


def event(number: int, *, user: str = "ann", item: str | None = None, minute: float | None = None) -> Interaction:
    """Event `e<number>`: by default item `i<number>`, `number` minutes after noon."""
    after = timedelta(minutes=number if minute is None else minute)
    return Interaction(f"e{number}", user, f"i{number}" if item is None else item, NOON + after)


def past(number: int, *, ms: int = 0, item: str | None = None) -> HistoryItem:
    """The same event as an import brings it, `ms` milliseconds after the epoch (0 = time unknown)."""
    return HistoryItem(f"i{number}" if item is None else item, "interaction", ms, hash64(f"e{number}"))


def shown_to(user: str, number: int = 0, at: datetime = NOON) -> Exposure:
    """Exposure `r<number>` of the items i1 and i2 to a user."""
    return Exposure(f"r{number}", user, None, at, "f" * 64, ("i1", "i2"), (0.75, 0.1), ("ann", "popular"))
