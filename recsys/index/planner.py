"""Which index for how many items: exact while that is cheap, then codes in FAISS, then codes in cells.

Measured on one thread, k = 100, over 1e5 x 128 vectors of real texts at recall@100 >= .99: exact 1.95 ms; one sweep
over 4-bit codes of two dimensions each .27 ms, on the axes of `recsys.index.weighted`. Cells save little there, because
such vectors' neighbours lie in a third of all cells; they pay where a sweep grows long. HNSW is never chosen: slower
here, ten times slower to build, and its recall falls to .2 when 1 % of the items pass a filter. It can be asked for by
`factory`.

What a plan is worth depends on the vectors, so a built index is measured against exact search and made more thorough
until it finds enough.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.errors import ConfigError
from recsys.index.approximate import ApproximateIndex
from recsys.index.codes import OnProgress
from recsys.index.config import IndexConfig as IndexConfig
from recsys.index.exact import ExactIndex
from recsys.metrics.ann import recall_against_exact

Vectors = NDArray[np.float32]

CELLS_FROM = 500_000
FEWEST_VECTORS_A_CELL = 39
"""FAISS warns below this many training vectors a centroid."""

MOST_CELLS = 65_536
DIMENSIONS_A_CODE = (2, 4, 8)
"""The first that fits the memory is taken: each doubling halves the codes and asks for five times the
candidates. At 16 not even one in sixteen of all items held .9 of the nearest."""

PROBED_SHARE, PROBED_AT, PROBED_EXPONENT = 0.34, 100_000, -0.2
"""Share of the cells that hold 99 % of the 100 nearest: .45, .38 and .34 for 25, 50 and 100 thousand vectors of real
texts with 4 sqrt(N) cells; a power law beyond. Clustered vectors need a tenth of it; tuning finds out."""

TUNING_QUERIES = 128
TUNING_K = 100
FEWEST_PROBES = 8
TUNING_FACTORS = (4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128)
THOROUGH_FACTOR = 16
"""Candidates fetched for each one asked for while the number of probes is looked for."""


class IndexPlan(Config):
    """What will be built. `factory` is empty for exact search.

    Attributes:
        n_codes: 4-bit codes of one item.
        n_cells: 0 without cells.
        is_planned: False where the configuration names the factory: its codes and cells are not known before.
    """

    kind: Literal["exact", "approximate"]
    factory: str = ""
    refine_factor: int = 4
    n_probes: int = 1
    n_codes: int = 0
    n_cells: int = 0
    is_planned: bool = True
    seed: int = 1234


def plan_index(n_items: int, dim: int, config: IndexConfig | None = None) -> IndexPlan:
    """Decide by the number of items, the width of their vectors and the memory.

    Raises:
        ConfigError: not even the smallest codes fit the memory.
    """
    config = config or IndexConfig()
    exact = n_items < config.exact_below if config.kind == "auto" else config.kind == "exact"
    if exact or n_items == 0 or dim <= 1:
        return IndexPlan(kind="exact")
    n_cells = _n_cells(n_items) if n_items >= CELLS_FROM else 0
    n_probes = config.n_probes or max(1, math.ceil(probed_share(n_items) * n_cells))
    if config.factory != "auto":
        return IndexPlan(
            kind="approximate",
            factory=config.factory,
            refine_factor=config.refine_factor,
            n_probes=n_probes if n_cells else config.n_probes or 8,
            is_planned=False,
            seed=config.seed,
        )
    n_codes, width = _codes(n_items, dim, n_cells, config.memory_gib)
    # Cells are found by distance, which stretched axes would change: there the axes are only turned.
    before = f"RR{width},IVF{n_cells}" if n_cells else f"W{width}"
    return IndexPlan(
        kind="approximate",
        factory=f"{before},PQ{n_codes}x4fs",
        refine_factor=config.refine_factor,
        n_probes=n_probes,
        n_codes=n_codes,
        n_cells=n_cells,
        seed=config.seed,
    )


def build_index(
    vectors: Vectors,
    config: IndexConfig | None = None,
    *,
    queries: Vectors | None = None,
    on_progress: OnProgress | None = None,
) -> ExactIndex | ApproximateIndex:
    """The planned index, tuned; the same vectors, config and queries give the same bytes on disk.

    Args:
        vectors: float32 [N, D], the item vectors; mapped from a file they are read in chunks, and the build holds
            the codes and, one after the other, the training sample (twice, as FAISS rotates it) and one chunk.
        config: defaults to `IndexConfig()`.
        queries: float32 [B, D], real queries to tune with; without them, items stand in.
        on_progress: called with (items in the index, N).

    Raises:
        ValueError: vectors that are not finite.
        ConfigError: see `plan_index`.
        EnvironmentProblem: the factory asks for a GPU that is not there.
    """
    config = config or IndexConfig()
    plan = plan_index(len(vectors), vectors.shape[1], config)
    if plan.kind == "exact":
        if on_progress is not None:
            on_progress(len(vectors), len(vectors))
        return ExactIndex(vectors)
    index = ApproximateIndex.build(
        vectors,
        plan.factory,
        refine_factor=plan.refine_factor,
        n_probes=plan.n_probes,
        seed=plan.seed,
        threads=config.threads,
        on_progress=on_progress,
    )
    if queries is None or len(queries) == 0:
        rows = np.random.default_rng(plan.seed).integers(0, len(vectors), TUNING_QUERIES)
        queries = np.ascontiguousarray(vectors[rows])
    return _tuned(index, queries[:TUNING_QUERIES], config.recall_target)


def probed_share(n_items: int) -> float:
    """Share of the cells to probe, before tuning."""
    return float(min(1.0, PROBED_SHARE * (n_items / PROBED_AT) ** PROBED_EXPONENT))


def code_bytes(n_items: int, n_codes: int, n_cells: int, dim: int) -> int:
    """What FAISS holds: codes (in blocks of 32 items), and with cells the row of each code, and their centres."""
    with_rows = 8 * n_items + 4 * dim * n_cells if n_cells else 0
    return math.ceil(n_items / 32) * 32 * math.ceil(n_codes / 2) + with_rows


def _tuned(index: ApproximateIndex, queries: Vectors, recall_target: float) -> ApproximateIndex:
    """As many cells and then candidates as find `recall_target` of the exact neighbours, two standard errors above
    chance included; all there are where even those find less."""
    if recall_target == 0 or not len(queries):
        return index
    exact, _ = ExactIndex(index.vectors, are_checked=True).search(queries, TUNING_K)

    def finds(candidate: ApproximateIndex, wanted: float) -> bool:
        found, _ = candidate.search(queries, TUNING_K)
        recalls = [
            recall_against_exact(found[place : place + 1], exact[place : place + 1]) for place in range(len(found))
        ]
        error = float(np.std(recalls)) / math.sqrt(len(recalls))
        return float(np.mean(recalls)) - 2 * error >= wanted

    if index.n_cells:
        thorough = index.tuned(
            refine_factor=max(THOROUGH_FACTOR, index.refine_factor),
            n_probes=min(index.n_probes, max(FEWEST_PROBES, index.n_cells // 64)),
        )
        # Half of what may be missed is left to the codes.
        while thorough.n_probes < index.n_cells and not finds(thorough, (1 + recall_target) / 2):
            thorough = thorough.tuned(n_probes=min(index.n_cells, math.ceil(1.4 * thorough.n_probes)))
        index = index.tuned(n_probes=min(thorough.n_probes, index.n_cells))
    for factor in [index.refine_factor, *(each for each in TUNING_FACTORS if each > index.refine_factor)]:
        index = index.tuned(refine_factor=factor)
        if finds(index, recall_target):
            break
    return index


def _n_cells(n_items: int) -> int:
    """The power of two next to 4 sqrt(N), few enough that every cell's centroid is well trained."""
    wanted = 1 << round(math.log2(4 * math.sqrt(n_items)))
    return max(1, min(wanted, n_items // FEWEST_VECTORS_A_CELL, MOST_CELLS))


def _codes(n_items: int, dim: int, n_cells: int, memory_gib: float) -> tuple[int, int]:
    """Codes of an item, and the width that the rotation brings the vectors to: a whole number of them."""
    sizes = []
    for dims_a_code in DIMENSIONS_A_CODE:
        n_codes = math.ceil(dim / dims_a_code)
        sizes.append(code_bytes(n_items, n_codes, n_cells, dim) / 2**30)
        if memory_gib == 0 or sizes[-1] <= memory_gib:
            return n_codes, n_codes * dims_a_code
    raise ConfigError(
        f"[index] memory_gib = {memory_gib:g} is too little for {n_items:,} items: the smallest codes take "
        f"{sizes[-1]:.2g} GiB; give it that much, or split the catalogue"
    )
