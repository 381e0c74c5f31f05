"""What became of the last requests, by recommendation_id: the slates as they were, kept by reference, written out only
when somebody asks."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from recsys.types import Slate

# Where the scope of an answered request carries its `TracedRequest`, for the spans of its trace.
TRACED = "recsys.traced"
# About what they hold of memory, measured with tracemalloc on slates of 20 items.
REQUEST_BYTES = 1200
STAGE_BYTES = 140
ITEM_BYTES = 260
PART_BYTES = 100
NOTHING: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One request after it was answered.

    Attributes:
        slate: with its stages.
        finished_ns: Unix time when it was put here, just after its last stage.
        dropped: candidates that each hard rule took out.
    """

    slate: Slate
    finished_ns: int
    surface: str = ""
    dropped: Mapping[str, int] = field(default_factory=dict)


class RecentTraces:
    """A ring of the last requests, bounded in entries and in bytes. Safe from several threads."""

    def __init__(self, capacity: int, max_bytes: int) -> None:
        """`capacity` 0 keeps nothing."""
        self.capacity = capacity
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, tuple[TracedRequest, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, slate: Slate, surface: str = "", dropped: Mapping[str, int] = NOTHING) -> None:
        """Keep this one, and let go of the oldest where there are too many."""
        if not self.capacity:
            return
        n_bytes = _bytes_of(slate)
        traced = TracedRequest(slate, time.time_ns(), surface, dropped)
        kept = self._kept
        with self._lock:
            before = kept.pop(slate.recommendation_id, None)
            if before is not None:
                self._n_bytes -= before[1]
            kept[slate.recommendation_id] = traced, n_bytes
            self._n_bytes += n_bytes
            while len(kept) > self.capacity or self._n_bytes > self._max_bytes:
                self._n_bytes -= kept.popitem(last=False)[1][1]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._n_bytes = 0

    def get(self, recommendation_id: str) -> TracedRequest | None:
        """The request, or None where it is gone or was never here."""
        found = self._kept.get(recommendation_id)
        return None if found is None else found[0]


def _bytes_of(slate: Slate) -> int:
    items = slate.items
    parts = len(items[0].parts) if items else 0
    n_ids = len(slate.missing_ids)
    return REQUEST_BYTES + STAGE_BYTES * len(slate.trace) + (ITEM_BYTES + PART_BYTES * parts) * len(items) + 100 * n_ids
