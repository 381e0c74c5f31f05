"""Events to write in the suites, each with its own id and minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from recsys.events import Interaction, hash64
from recsys.types import HistoryItem

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOON_MS = 1_714_564_800_000


def event(number: int, *, user: str = "ann", item: str | None = None, minute: float | None = None) -> Interaction:
    """Event `e<number>`: by default item `i<number>`, `number` minutes after noon."""
    after = timedelta(minutes=number if minute is None else minute)
    return Interaction(f"e{number}", user, f"i{number}" if item is None else item, NOON + after)


def past(number: int, *, ms: int = 0, item: str | None = None) -> HistoryItem:
    """The same event as an import brings it, `ms` milliseconds after the epoch (0 = time unknown)."""
    return HistoryItem(f"i{number}" if item is None else item, "interaction", ms, hash64(f"e{number}"))
