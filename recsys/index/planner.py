"""Which index for how many items: exact while that is cheap, then codes in FAISS.

The thresholds come from measurements on one thread, k = 100, clustered unit vectors: an exact search costs .7 ms at
50k x 64 and grows with N; 4-bit codes read in one sweep .15 ms at 100k x 64; cells pay from some 200k on (1M x 128:
.4 ms against 2.5 in one sweep). HNSW is never chosen: twice as slow here, ten times slower to build, and its recall
falls to .2 when 1 % of the items pass a filter. It can be asked for by `factory`.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex

EXACT_BELOW = 50_000
CELLS_FROM = 200_000
TRAINING_VECTORS_A_CELL = 39
"""FAISS warns below this many training vectors a centroid."""


class IndexConfig(Config):
    """What may be said of the index; the planner decides what is left open.

    Attributes:
        kind: "auto" lets the number of items decide.
        exact_below: items from which "auto" approximates.
        factory: a FAISS factory string for approximate search, "auto" = by N and D.
        refine_factor: candidates fetched for each one asked for; more recall, more time.
        n_probes: cells searched, 0 = by N.
        seed: of the training of cells and codes.
    """

    kind: Literal["auto", "exact", "approximate"] = "auto"
    exact_below: Annotated[int, Field(ge=0)] = EXACT_BELOW
    factory: str = "auto"
    refine_factor: Annotated[int, Field(ge=1)] = 4
    n_probes: Annotated[int, Field(ge=0)] = 0
    seed: int = 1234


class IndexPlan(Config):
    """What will be built. `factory` is empty for exact search."""

    kind: Literal["exact", "approximate"]
    factory: str = ""
    refine_factor: int = 4
    n_probes: int = 1
    seed: int = 1234


def plan_index(n_items: int, dim: int, config: IndexConfig | None = None) -> IndexPlan:
    """Decide by the number of items and the width of their vectors."""
    config = config or IndexConfig()
    exact = n_items < config.exact_below if config.kind == "auto" else config.kind == "exact"
    if exact or n_items == 0 or dim == 0:
        return IndexPlan(kind="exact")
    n_cells = _n_cells(n_items)
    return IndexPlan(
        kind="approximate",
        factory=_factory(n_items, dim) if config.factory == "auto" else config.factory,
        refine_factor=config.refine_factor,
        n_probes=config.n_probes or max(8, n_cells // 32),
        seed=config.seed,
    )


def build_index(vectors: NDArray[np.float32], config: IndexConfig | None = None) -> ExactIndex | ApproximateIndex:
    """The planned index over item vectors float32 [N, D]; the same vectors and config give the same bytes on disk.

    Raises:
        ValueError: vectors that are not finite.
    """
    plan = plan_index(len(vectors), vectors.shape[1], config)
    if plan.kind == "exact":
        return ExactIndex(vectors)
    return ApproximateIndex.build(
        vectors, plan.factory, refine_factor=plan.refine_factor, n_probes=plan.n_probes, seed=plan.seed
    )


def _n_cells(n_items: int) -> int:
    """The power of two next to 4 sqrt(N), few enough that every cell's centroid is well trained."""
    wanted = 2 ** round(math.log2(4 * math.sqrt(n_items)))
    return max(1, min(wanted, n_items // TRAINING_VECTORS_A_CELL))


def _factory(n_items: int, dim: int) -> str:
    # Two dimensions a 4-bit code, one where D is odd: the number of codes must divide D.
    codes = f"PQ{dim // 2 if dim % 2 == 0 else dim}x4fs"
    return codes if n_items < CELLS_FROM else f"IVF{_n_cells(n_items)},{codes}"
