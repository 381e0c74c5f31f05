"""Catalogue → some hundreds of candidates, from several sources, each with a quota and its name kept.

ann      the query vector's nearest items
similar  items that follow, or go with, the latest of the history
recent   items upserted since the release was built
popular  what most people took
content  what looks or reads alike (similar items only)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config

Quota = Annotated[int, Field(ge=0)]
SourceName = Literal["ann", "similar", "recent", "popular", "content"]
SOURCES: tuple[SourceName, ...] = ("ann", "similar", "recent", "popular", "content")


class RetrievalConfig(Config):
    """How many candidates each source may bring, before the filter.

    Attributes:
        ann: quota of the query vector's neighbours.
        similar: quota of items that follow the history.
        recent: quota of items that came after the release.
        popular: quota of popular items; what is then missing from a slate is topped up from them.
        max_seen_overshoot: ann, recent and popular bring as many more as the user has seen, so that the filter leaves
            enough; at most this many.
    """

    ann: Quota = 300
    similar: Quota = 200
    recent: Quota = 50
    popular: Quota = 100
    max_seen_overshoot: Quota = 2000


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
    bits = np.concatenate([np.full(len(part.item_rows), bit_of(part.source), np.int64) for part in found])
    unique, first_at, inverse = np.unique(rows, return_index=True, return_inverse=True)
    merged_bits = np.zeros(len(unique), dtype=np.int64)
    np.bitwise_or.at(merged_bits, inverse, bits)
    in_order = np.argsort(first_at, kind="stable")
    return unique[in_order], merged_bits[in_order]


def bit_of(source: SourceName) -> int:
    """The bit that stands for a source."""
    return 1 << SOURCES.index(source)


def source_of(bits: int) -> SourceName:
    """The first named source of a bit set: the one an answer names."""
    return next(name for at, name in enumerate(SOURCES) if bits & (1 << at))
