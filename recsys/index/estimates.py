"""What a planned index will take: memory, disk, build time, cores for a load, and what those cost.

Formulas over the constants of `recsys.index.costs`. Measured up to 1e6 items; beyond that they are estimates, and the
share of cells that must be probed (`recsys.index.planner.probed_share`) decides more than all constants.
Letters: N items, D width, S training sample, C cells.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from recsys.config import Config
from recsys.index import costs
from recsys.index.codes import FEWEST_TRAINING_VECTORS, TRAINING_VECTORS_A_CELL
from recsys.index.config import IndexConfig
from recsys.index.planner import TUNING_QUERIES, IndexPlan, code_bytes, plan_index

FACTOR_BY_DIMENSIONS_A_CODE = {2: 4, 4: 20, 8: 100}
"""What tuning chose for recall@100 >= .99 on 1e5 x 128 vectors of real texts."""

MEASURED_UP_TO = 1_000_000
KMEANS_ROUNDS = 10
PAGE_BYTES = 4096
GRAPH_DEGREE = 64
GPU_SCRATCH_BYTES = 1536 * 2**20
"""faiss-gpu keeps this much for intermediate results."""

HOURS_A_MONTH = 730

Positive = Annotated[float, Field(gt=0)]


class Load(Config):
    """What is asked of the index, on which machines, at which prices. All of it is an assumption that may be replaced.

    Attributes:
        qps: searches a second at peak.
        selectivity: share of the items that a filter lets pass; 1 = no filter.
        k: neighbours asked for.
        cores_a_machine: each runs one process of the service, which searches on one thread.
        busy_share: of a core, at peak; more makes queues.
        build_cores: of the machine that builds.
        gpu: the cells are trained on one.
        gpu_tflops: float32 rate that its k-means reaches.
        price_core_hour, price_gib_hour, price_gpu_hour: in any currency.
    """

    qps: Positive = 100.0
    selectivity: Annotated[float, Field(gt=0, le=1)] = 1.0
    k: Annotated[int, Field(gt=0)] = 100
    cores_a_machine: Annotated[int, Field(gt=0)] = 16
    busy_share: Annotated[float, Field(gt=0, le=1)] = 0.6
    build_cores: Annotated[int, Field(gt=0)] = 16
    gpu: bool = False
    gpu_tflops: Positive = 20.0
    price_core_hour: Annotated[float, Field(ge=0)] = 0.04
    price_gib_hour: Annotated[float, Field(ge=0)] = 0.005
    price_gpu_hour: Annotated[float, Field(ge=0)] = 3.0


class IndexEstimate(Config):
    """Of one index under one load.

    Attributes:
        codes_bytes: in the memory of each process.
        vectors_bytes: float32, mapped from disk; processes of one machine share them.
        ram_process_bytes, ram_machine_bytes: codes, and codes of all its processes with the vectors once; with a
            memory limit the vectors stay on disk and are not counted.
        disk_bytes: index and vectors in a release.
        vram_bytes: to train the cells on a GPU; 0 without.
        graph_vram_bytes: to build a CAGRA graph over the vectors instead; not measured.
        build_s, train_s: wall seconds; training runs on one thread, or on the GPU.
        query_ms, filtered_query_ms: of one core.
        page_reads: pages that one query reads at most where the vectors are not in memory.
        qps_a_core, cores, machines: for the load, at its busy share.
        cost_a_month: machines, for their cores and the memory used.
        cost_of_build: of one build.
        is_extrapolated: beyond what was measured.
    """

    codes_bytes: int
    vectors_bytes: int
    ram_process_bytes: int
    ram_machine_bytes: int
    disk_bytes: int
    vram_bytes: int
    graph_vram_bytes: int
    build_s: float
    train_s: float
    query_ms: float
    filtered_query_ms: float
    page_reads: int
    qps_a_core: float
    cores: int
    machines: int
    cost_a_month: float
    cost_of_build: float
    is_extrapolated: bool


def estimate(plan: IndexPlan, n_items: int, dim: int, load: Load, *, memory_gib: float = 0.0) -> IndexEstimate:
    """What `plan` takes for N items of width D; `memory_gib` > 0 leaves the vectors on disk."""
    exact = plan.kind == "exact"
    codes = 0 if exact else code_bytes(n_items, plan.n_codes, plan.n_cells, dim)
    vectors = 4 * n_items * dim
    resident = 0 if memory_gib and not exact else vectors
    n_fetched = 0 if exact else load.k * expected_factor(plan, dim)
    query_ns, filtered_ns = (_query_ns(plan, n_items, dim, n_fetched, share) for share in (1.0, load.selectivity))
    qps_a_core = 1e9 / filtered_ns
    cores = math.ceil(load.qps / (qps_a_core * load.busy_share))
    machines = math.ceil(cores / load.cores_a_machine)
    ram_machine = codes * min(cores, load.cores_a_machine) + resident
    train_s, build_s = _build_s(plan, n_items, dim, load)
    gib_hours = ram_machine / 2**30 * machines
    return IndexEstimate(
        codes_bytes=codes,
        vectors_bytes=vectors,
        ram_process_bytes=codes + resident,
        ram_machine_bytes=ram_machine,
        disk_bytes=codes + vectors,
        vram_bytes=_training_bytes(plan, n_items, dim) if load.gpu and plan.n_cells else 0,
        graph_vram_bytes=n_items * (4 * dim + 3 * 4 * GRAPH_DEGREE) + GPU_SCRATCH_BYTES,
        build_s=build_s,
        train_s=train_s,
        query_ms=query_ns / 1e6,
        filtered_query_ms=filtered_ns / 1e6,
        page_reads=0 if exact else n_fetched * math.ceil(4 * dim / PAGE_BYTES),
        qps_a_core=qps_a_core,
        cores=cores,
        machines=machines,
        cost_a_month=HOURS_A_MONTH * (machines * load.cores_a_machine * load.price_core_hour)
        + HOURS_A_MONTH * gib_hours * load.price_gib_hour,
        cost_of_build=build_s / 3600 * load.build_cores * load.price_core_hour
        + (train_s / 3600 * load.price_gpu_hour if load.gpu and plan.n_cells else 0.0),
        is_extrapolated=n_items > MEASURED_UP_TO,
    )


def plan_and_estimate(
    n_items: int, dim: int, config: IndexConfig | None = None, load: Load | None = None
) -> tuple[IndexPlan, IndexEstimate]:
    """Both for one catalogue. Raises ConfigError as `plan_index` does, and for a factory that is not the planner's."""
    config, load = config or IndexConfig(), load or Load()
    plan = plan_index(n_items, dim, config)
    return plan, estimate(plan, n_items, dim, load, memory_gib=config.memory_gib)


def expected_factor(plan: IndexPlan, dim: int) -> int:
    """The refine factor that tuning is expected to choose."""
    dims_a_code = round(dim / max(plan.n_codes, 1))
    nearest = min(FACTOR_BY_DIMENSIONS_A_CODE, key=lambda each: abs(each - dims_a_code))
    return max(plan.refine_factor, FACTOR_BY_DIMENSIONS_A_CODE[nearest])


def _query_ns(plan: IndexPlan, n_items: int, dim: int, n_fetched: int, selectivity: float) -> float:
    """The cheaper of the two ways that `ApproximateIndex.search` chooses from."""
    n_allowed = max(1, math.ceil(selectivity * n_items))
    by_exact = costs.exact_ns(n_items, dim)
    if selectivity < 1:
        by_exact = min(by_exact, costs.subset_ns(n_allowed, dim))
    if plan.kind == "exact":
        return by_exact
    n_swept, finding_cells = float(n_items), 0.0
    if plan.n_cells:
        finding_cells = costs.exact_ns(plan.n_cells, dim) - costs.CALL_NS
        n_swept = n_items * min(1.0, plan.n_probes / plan.n_cells / selectivity)
    elif selectivity < 1:
        n_fetched = math.ceil(1.25 * n_fetched / selectivity)
    return min(by_exact, finding_cells + costs.coded_ns(n_swept, plan.n_codes, n_fetched, dim))


def _build_s(plan: IndexPlan, n_items: int, dim: int, load: Load) -> tuple[float, float]:
    """Seconds of training, and of the whole build."""
    if plan.kind == "exact":
        return 0.0, 0.0
    comparisons = KMEANS_ROUNDS * _sample(plan, n_items) * plan.n_cells * dim
    rate = load.gpu_tflops * 1e12 / 2 if load.gpu else 1e9 / costs.MULTIPLIED_NS
    train_s = comparisons / rate + costs.CODES_TRAINED_NS_A_FLOAT * FEWEST_TRAINING_VECTORS * dim / 1e9
    fill_ns = n_items * dim * (costs.ENCODED_NS_A_FLOAT + costs.MULTIPLIED_NS * plan.n_cells)
    tune_ns = TUNING_QUERIES * costs.exact_ns(n_items, dim)
    return train_s, train_s + fill_ns / 1e9 / load.build_cores + tune_ns / 1e9


def _sample(plan: IndexPlan, n_items: int) -> int:
    return min(n_items, max(FEWEST_TRAINING_VECTORS, TRAINING_VECTORS_A_CELL * plan.n_cells))


def _training_bytes(plan: IndexPlan, n_items: int, dim: int) -> int:
    return 4 * dim * (_sample(plan, n_items) + plan.n_cells) + GPU_SCRATCH_BYTES
