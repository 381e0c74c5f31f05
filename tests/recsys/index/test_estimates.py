"""Estimates: the arithmetic, and what must hold whatever the constants are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.index import costs
from recsys.index.config import IndexConfig
from recsys.index.estimates import HOURS_A_MONTH, Load, estimate, plan_and_estimate
from recsys.index.planner import plan_index

GIB = 2**30


def test_bytes_of_fifty_million_vectors_of_512():
    plan, takes = plan_and_estimate(50_000_000, 512, load=Load(qps=2000))
    # 256 codes of half a byte, 8 bytes for the row, 32,768 centres of 512 floats.
    assert takes.codes_bytes == 50_000_000 * (128 + 8) + 4 * 512 * 32_768
    assert takes.vectors_bytes == 50_000_000 * 2048
    assert takes.disk_bytes == takes.codes_bytes + takes.vectors_bytes
    assert plan.n_cells == 32_768
    assert takes.is_extrapolated
    assert takes.ram_machine_bytes == 16 * takes.codes_bytes + takes.vectors_bytes


def test_with_a_memory_limit_the_vectors_stay_on_disk():
    _, takes = plan_and_estimate(50_000_000, 512, IndexConfig(memory_gib=8), Load(qps=2000))
    assert takes.ram_process_bytes == takes.codes_bytes < 8 * GIB
    # 400 candidates of 2,048 bytes: each may be a page.
    assert takes.page_reads == 400


def test_cores_are_the_load_over_what_one_does_at_its_busy_share():
    _, takes = plan_and_estimate(1_000_000, 128, load=Load(qps=10_000, busy_share=0.5))
    assert takes.qps_a_core == pytest.approx(1000 / takes.query_ms)
    assert takes.cores == math.ceil(10_000 / (0.5 * takes.qps_a_core))
    assert takes.machines == math.ceil(takes.cores / 16)


def test_cost_is_the_machines_cores_and_the_memory_used():
    prices = Load(qps=1, price_core_hour=2, price_gib_hour=3, cores_a_machine=4)
    _, takes = plan_and_estimate(10_000, 64, load=prices)
    gib = 4 * 64 * 10_000 / GIB
    assert takes.cost_a_month == pytest.approx(HOURS_A_MONTH * (4 * 2 + gib * 3))


def test_a_search_by_codes_is_the_sum_of_its_parts():
    plan = plan_index(100_000, 128)
    takes = estimate(plan, 100_000, 128, Load())
    nanoseconds = costs.CODED_CALL_NS + 100_000 * 64 * costs.SWEPT_NS_A_CODE
    nanoseconds += 400 * (costs.FETCHED_NS + 128 * costs.GATHERED_NS_A_FLOAT)
    assert takes.query_ms == pytest.approx(nanoseconds / 1e6)
    assert (
        takes.query_ms
        < 0.15 * estimate(plan_index(100_000, 128, IndexConfig(kind="exact")), 100_000, 128, Load()).query_ms
    )


def test_a_gpu_shortens_the_training_of_cells_and_needs_memory_for_it():
    plan = plan_index(20_000_000, 256)
    without, with_gpu = (estimate(plan, 20_000_000, 256, Load(gpu=gpu)) for gpu in (False, True))
    assert with_gpu.train_s < without.train_s / 10
    assert without.vram_bytes == 0 < with_gpu.vram_bytes
    no_cells = plan_index(100_000, 256)
    assert estimate(no_cells, 100_000, 256, Load(gpu=True)).vram_bytes == 0


@settings(max_examples=60, deadline=None)
@given(
    n_items=st.integers(1, 10**10),
    dim=st.integers(1, 4096),
    qps=st.floats(0.01, 1e6),
    selectivity=st.floats(1e-9, 1),
    gpu=st.booleans(),
)
def test_every_estimate_is_finite_and_a_filter_never_costs_more_than_comparing_all(n_items, dim, qps, selectivity, gpu):
    plan, takes = plan_and_estimate(n_items, dim, load=Load(qps=qps, selectivity=selectivity, gpu=gpu))
    assert all(math.isfinite(value) and value >= 0 for value in takes.model_dump().values())
    assert takes.cores >= 1
    assert takes.filtered_query_ms <= costs.exact_ns(n_items, dim) / 1e6 * (1 + 1e-9)
    assert takes.disk_bytes >= 4 * n_items * dim
    assert (plan.kind == "exact") == (takes.codes_bytes == 0)


def test_a_share_of_nothing_is_no_filter_and_no_load_is_no_load():
    for wrong in ({"selectivity": 0}, {"selectivity": 1.1}, {"qps": 0}, {"busy_share": 0}, {"price_core_hour": -1}):
        with pytest.raises(ValidationError):
            Load(**wrong)
