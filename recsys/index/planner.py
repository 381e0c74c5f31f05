"""Which index for how many items: exact while that is cheap, then codes in FAISS.

The thresholds come from measurements on one thread, k = 100, clustered unit vectors: an exact search costs .7 ms at
50k x 64 and grows with N; 4-bit codes read in one sweep .15 ms at 100k x 64; cells pay from some 200k on (1M x 128:
.4 ms against 2.5 in one sweep). HNSW is never chosen: twice as slow here, ten times slower to build, and its recall
falls to .2 when 1 % of the items pass a filter. It can be asked for by `factory`.

What a plan is worth depends on the vectors, so a built index is measured against exact search and made more thorough
until it finds enough.
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
from recsys.metrics.ann import recall_against_exact

Vectors = NDArray[np.float32]

EXACT_BELOW = 50_000
CELLS_FROM = 200_000
FEWEST_VECTORS_A_CELL = 39
"""FAISS warns below this many training vectors a centroid."""

TUNING_QUERIES = 64
TUNING_K = 100
MAX_REFINE_FACTOR = 64


class IndexConfig(Config):
    """What may be said of the index; the planner decides what is left open.

    Attributes:
        kind: "auto" lets the number of items decide.
        exact_below: items from which "auto" approximates.
        factory: a FAISS factory string for approximate search, "auto" = by N and D.
        refine_factor: candidates fetched for each one asked for, before tuning; more recall, more time.
        n_probes: cells searched, before tuning; 0 = by N.
        recall_target: share of the exact 100 nearest that tuning wants found; 0 = no tuning.
        seed: of the training of cells and codes.
    """

    kind: Literal["auto", "exact", "approximate"] = "auto"
    exact_below: Annotated[int, Field(ge=0)] = EXACT_BELOW
    factory: str = "auto"
    refine_factor: Annotated[int, Field(ge=1)] = 4
    n_probes: Annotated[int, Field(ge=0)] = 0
    recall_target: Annotated[float, Field(ge=0, le=1)] = 0.98
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


def build_index(
    vectors: Vectors, config: IndexConfig | None = None, *, queries: Vectors | None = None
) -> ExactIndex | ApproximateIndex:
    """The planned index, tuned; the same vectors, config and queries give the same bytes on disk.

    Args:
        vectors: float32 [N, D], the item vectors.
        config: defaults to `IndexConfig()`.
        queries: float32 [B, D], real queries to tune with; without them, items stand in.

    Raises:
        ValueError: vectors that are not finite.
    """
    config = config or IndexConfig()
    plan = plan_index(len(vectors), vectors.shape[1], config)
    if plan.kind == "exact":
        return ExactIndex(vectors)
    index = ApproximateIndex.build(
        vectors, plan.factory, refine_factor=plan.refine_factor, n_probes=plan.n_probes, seed=plan.seed
    )
    if queries is None or len(queries) == 0:
        queries = vectors[np.random.default_rng(plan.seed).integers(0, len(vectors), TUNING_QUERIES)]
    return _tuned(index, queries[:TUNING_QUERIES], config.recall_target)


def _tuned(index: ApproximateIndex, queries: Vectors, recall_target: float) -> ApproximateIndex:
    """Twice the candidates and twice the cells, until the target is met or nothing is left to double."""
    if recall_target == 0:
        return index
    exact, _ = ExactIndex(index.vectors).search(queries, TUNING_K)
    while index.refine_factor < MAX_REFINE_FACTOR:
        if recall_against_exact(index.search(queries, TUNING_K)[0], exact) >= recall_target:
            break
        index = ApproximateIndex(
            index.vectors, index.codes, refine_factor=2 * index.refine_factor, n_probes=2 * index.n_probes
        )
    return index


def _n_cells(n_items: int) -> int:
    """The power of two next to 4 sqrt(N), few enough that every cell's centroid is well trained."""
    wanted = 1 << round(math.log2(4 * math.sqrt(n_items)))
    return max(1, min(wanted, n_items // FEWEST_VECTORS_A_CELL))


def _factory(n_items: int, dim: int) -> str:
    # Two dimensions a 4-bit code, one where D is odd: the number of codes must divide D.
    codes = f"PQ{dim // 2 if dim % 2 == 0 else dim}x4fs"
    return codes if n_items < CELLS_FROM else f"IVF{_n_cells(n_items)},{codes}"
