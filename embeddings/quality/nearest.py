"""The nearest neighbours of every vector, and how near two vectors come by chance.

Letters: N vectors, D width, K neighbours of each.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.index.planner import IndexConfig, build_index

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
OnProgress = Callable[[int, int], None]

N_NEIGHBOURS = 10
FEWEST_TO_CALIBRATE = 50
UNCALIBRATED_SIMILARITY = 0.95
CHANCE_ITEMS = 1.0
"""A neighbour counts as nearer than chance where fewer than this many items of the catalogue would have one."""

_CHUNK = 1024
_INNER = 4
"""The neighbour whose distance, beside the K-th's, tells the local dimension: copies rarely come in fives."""
_MEDIAN_BETA = 1.0 / 3.0
_SAMPLE = 20_000
_TINY = 1e-6


@dataclass(frozen=True)
class Nearest:
    """rows int64 [N, K] and cosine similarities float32 [N, K], nearest first, without the item itself."""

    rows: Rows
    similarities: Vectors


@dataclass(frozen=True)
class Chance:
    """How near neighbours come where nothing is a copy of anything.

    Attributes:
        similarity: a nearer neighbour than this is not there by chance.
        dimension: of the space that the vectors fill locally; 0 where there were too few to tell.
    """

    similarity: float
    dimension: float

    @property
    def calibrated(self) -> bool:
        return self.dimension > 0


def nearest(
    vectors: Vectors, k: int = N_NEIGHBOURS, *, threads: int = 1, on_progress: OnProgress | None = None
) -> Nearest:
    """Search every vector among the others: exactly where they are few, else as the index planner decides.

    Args:
        vectors: float32 [N, D], L2-normalised and finite; the index keeps one copy of them at most.
        k: fewer where there are no K others.
        threads: that search at a time; they do not change what is found.
    """
    n = len(vectors)
    k = min(k, max(n - 1, 0))
    rows, similarities = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    if k == 0:
        return Nearest(rows, similarities)
    index = build_index(vectors, IndexConfig())
    chunks = [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]
    with ThreadPoolExecutor(threads) as pool:
        answers = pool.map(lambda chunk: index.search(vectors[chunk], k + 1), chunks)
        for chunk, (found, values) in zip(chunks, answers, strict=True):
            own = np.arange(chunk.start, chunk.stop)
            rows[chunk], similarities[chunk] = _without_self(found, values, own)
            if on_progress:
                on_progress(chunk.stop, n)
    return Nearest(rows, similarities)


def _without_self(found: Rows, values: Vectors, own: Rows) -> tuple[Rows, Vectors]:
    """[B, k + 1] → [B, k]: the item itself goes, or the last where an approximate search missed it."""
    keep = found != own[:, None]
    keep[keep.all(axis=1), -1] = False
    shape = (len(found), found.shape[1] - 1)
    return found[keep].reshape(shape), values[keep].reshape(shape)


def chance_level(similarities: Vectors) -> Chance:
    """From the distances to the outer neighbours, how near the first one comes by chance.

    Where points lie evenly in `m` dimensions around an item, the K - 1 neighbours inside the K-th distance r_K lie at
    u^(1/m) r_K, u uniform. So (r_4 / r_K)^m has a Beta(4, K - 4) law, whose median gives m, and the first is nearer
    than r with probability 1 - (1 - (r / r_K)^m)^(K - 1) (the argument of Levina and Bickel 2004, "Maximum likelihood
    estimation of intrinsic dimension"). The level is the distance at which that expects `CHANCE_ITEMS` items of the
    whole catalogue. Copies shift the first few distances and not the outer ones: the level holds however many there
    are.

    Args:
        similarities: float32 [N, K], cosine, nearest first.
    """
    n, k = similarities.shape
    if n < FEWEST_TO_CALIBRATE or k <= _INNER + 1:
        return Chance(UNCALIBRATED_SIMILARITY, 0.0)
    distances = np.sqrt(np.maximum(2.0 - 2.0 * similarities.astype(np.float64), _TINY**2))
    outer = distances[:, -1]
    spread = float(np.median(np.log(outer / distances[:, _INNER - 1])))
    if spread < _TINY:
        return Chance(UNCALIBRATED_SIMILARITY, 0.0)
    dimension = -np.log(_beta_median(_INNER, k - _INNER)) / spread
    scales = outer[:: max(1, n // _SAMPLE)]
    low, high = 0.0, float(outer.max())
    for _ in range(50):
        middle = (low + high) / 2
        if n * chance_share(middle, scales, dimension, k) > CHANCE_ITEMS:
            high = middle
        else:
            low = middle
    return Chance(1.0 - low**2 / 2, float(dimension))


def chance_share(distance: float, outer: NDArray[np.float64], dimension: float, k: int) -> float:
    """The share of items whose nearest neighbour lies within `distance` by chance; `outer` float64 [S] are r_K."""
    inside = np.minimum(distance / outer, 1.0) ** dimension
    return float((1.0 - (1.0 - inside) ** (k - 1)).mean())


def _beta_median(a: int, b: int) -> float:
    """To within 1 % for a, b > 1 (Kerman 2011)."""
    return (a - _MEDIAN_BETA) / (a + b - 2 * _MEDIAN_BETA)
