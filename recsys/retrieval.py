"""Catalogue → some hundreds of candidates, from several sources, each with a quota and its name kept.

ann      the query vector's nearest items
similar  items that follow, or go with, the latest of the history
recent   items upserted since the release was built
popular  what most people took
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config

SourceName = Literal["ann", "similar", "recent", "popular"]
SOURCES: tuple[SourceName, ...] = ("ann", "similar", "recent", "popular")


class RetrievalConfig(Config):
    """How many candidates each source may bring, before the filter.

    Attributes:
        ann: quota of the query vector's neighbours.
        similar: quota of items that follow the history.
        recent: quota of items that came after the release.
        popular: quota of popular items; with an empty history it also fills the other quotas.
        max_seen_overshoot: the index is asked for this many more at most, for the seen ones that the filter takes.
    """

    ann: int = 300
    similar: int = 200
    recent: int = 50
    popular: int = 100
    max_seen_overshoot: int = 2000


@dataclass(frozen=True, slots=True)
class Found:
    """What one source brought, best first: item rows int64 [F]."""

    source: SourceName
    item_rows: NDArray[np.int64]


def merge(found: Sequence[Found]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row once, in the order of first appearance, with the bit set of all sources that brought it.

    Returns:
        item_rows int64 [C], sources int64 [C] (bit i = `SOURCES[i]`).
    """
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = np.concatenate([part.item_rows for part in found]).astype(np.int64)
    bits = np.concatenate([np.full(len(part.item_rows), 1 << SOURCES.index(part.source), np.int64) for part in found])
    unique, first_at, inverse = np.unique(rows, return_index=True, return_inverse=True)
    merged_bits = np.zeros(len(unique), dtype=np.int64)
    np.bitwise_or.at(merged_bits, inverse, bits)
    in_order = np.argsort(first_at, kind="stable")
    return unique[in_order], merged_bits[in_order]


def source_of(bits: int) -> SourceName:
    """The first named source of a bit set: the one an answer names."""
    return next(name for at, name in enumerate(SOURCES) if bits & (1 << at))
