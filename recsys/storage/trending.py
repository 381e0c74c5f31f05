"""What is taken most now: accepted events are counted by ten minutes, and older counts weigh less.

Time is that of the events, so that a late batch does not look like a rush. A store keeps one day, and of each ten
minutes the items taken most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from recsys.events import Interaction

BUCKET_S = 600
N_BUCKETS = 144
MAX_ITEMS = 5000  # of one bucket
KEPT_ITEMS = 4000  # when it has more
_HALF_LIVES = 5
_MIN_DEPTH = 200


def bucket_of(at_ms: int) -> int:
    return at_ms // (BUCKET_S * 1000)


def counted(events: Iterable[Interaction], now_s: float) -> dict[int, Counter[str]]:
    """Bucket → item_id → events, for those of the last day (and of the next ten minutes: clocks differ)."""
    newest = bucket_of(int(now_s * 1000)) + 1
    counts: dict[int, Counter[str]] = {}
    for event in events:
        bucket = bucket_of(event.occurred_at_ms)
        if newest - N_BUCKETS < bucket <= newest:
            counts.setdefault(bucket, Counter())[event.item_id] += 1
    return counts


def buckets_to_read(now_ms: int, half_life_s: float) -> range:
    """The buckets that weigh anything, oldest first."""
    if half_life_s <= 0:
        raise ValueError(f"half_life_s must be positive, not {half_life_s}")
    newest = bucket_of(now_ms) + 1
    return range(newest - min(N_BUCKETS, ceil(_HALF_LIVES * half_life_s / BUCKET_S) + 1), newest + 1)


def depth_for(k: int) -> int:
    """How many items of each bucket are looked at: what is not among these in any bucket is not trending."""
    return max(_MIN_DEPTH, 4 * k)


def most_taken(
    counts: Mapping[int, Sequence[tuple[str, float]]], now_ms: int, half_life_s: float, k: int
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """`FeatureStore.trending` from the counts of each bucket; an event is as old as the middle of its bucket."""
    weights: dict[str, float] = {}
    for bucket, taken in counts.items():
        age_s = max(0.0, now_ms / 1000 - (bucket + 0.5) * BUCKET_S)
        each = 2.0 ** (-age_s / half_life_s)
        for item_id, count in taken:
            weights[item_id] = weights.get(item_id, 0.0) + each * count
    best = sorted(weights.items(), key=lambda entry: (-entry[1], entry[0]))[:k]
    return tuple(item_id for item_id, _ in best), np.array([weight for _, weight in best], np.float32)
