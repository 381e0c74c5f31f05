from __future__ import annotations

import faiss
import numpy as np
import pytest
from pydantic import ValidationError

from recsys.errors import ConfigError
from recsys.index.approximate import ApproximateIndex
from recsys.index.config import IndexConfig
from recsys.index.exact import ExactIndex
from recsys.index.planner import build_index, code_bytes, plan_index
from recsys.metrics.ann import recall_against_exact


def test_exact_below_fifty_thousand_items_and_approximate_from_there():
    assert plan_index(49_999, 64).kind == "exact"
    assert plan_index(50_000, 64).kind == "approximate"


def test_one_sweep_over_codes_at_first_cells_for_more():
    assert plan_index(100_000, 64).factory == "W64,PQ32x4fs"
    assert plan_index(1_000_000, 128).factory == "RR128,IVF4096,PQ64x4fs"
    assert plan_index(50_000_000, 512).factory == "RR512,IVF32768,PQ256x4fs"


def test_the_rotation_brings_every_width_to_a_whole_number_of_codes():
    for dim in range(2, 300):
        plan = plan_index(100_000, dim)
        width = int(plan.factory.partition(",")[0].removeprefix("W"))
        assert plan.factory.endswith(f"PQ{plan.n_codes}x4fs")
        assert width == 2 * plan.n_codes
        assert 0 <= width - dim <= 1


@pytest.mark.parametrize("dim", [3, 5, 16])
def test_an_odd_width_keeps_its_inner_products_through_the_rotation(dim):
    vectors = isotropic(3000, dim)
    index = build_index(vectors, IndexConfig(kind="approximate", threads=1))
    assert isinstance(index, ApproximateIndex)
    found, exact = index.search(vectors[:20], 50)[0], ExactIndex(vectors).search(vectors[:20], 50)[0]
    assert recall_against_exact(found, exact) >= 0.97


def test_cells_have_enough_vectors_to_be_trained_and_are_probed_less_the_more_there_are():
    shares = []
    for n_items in (500_000, 1_000_000, 20_000_000, 1_000_000_000):
        plan = plan_index(n_items, 64)
        assert n_items / plan.n_cells >= 39
        assert 1 <= plan.n_probes <= plan.n_cells
        shares.append(plan.n_probes / plan.n_cells)
    assert shares == sorted(shares, reverse=True)


def test_memory_decides_how_many_dimensions_a_code_stands_for():
    # 100,000 x 128 at 2 dimensions a code: 64 codes of half a byte = 32 bytes an item, 3.05 MiB.
    mib = 1 / 1024
    assert plan_index(100_000, 128, IndexConfig(memory_gib=3.2 * mib)).factory == "W128,PQ64x4fs"
    assert plan_index(100_000, 128, IndexConfig(memory_gib=1.6 * mib)).factory == "W128,PQ32x4fs"
    assert plan_index(100_000, 128, IndexConfig(memory_gib=0.8 * mib)).factory == "W128,PQ16x4fs"
    with pytest.raises(ConfigError, match=r"smallest codes take 0\.00075 GiB"):
        plan_index(100_000, 128, IndexConfig(memory_gib=0.1 * mib))


def test_the_bytes_of_codes_are_those_that_faiss_holds():
    for n_items in (20_000, 20_011):
        plan = plan_index(n_items, 24, IndexConfig(kind="approximate"))
        codes = build_index(isotropic(n_items, 24), IndexConfig(kind="approximate", recall_target=0)).codes
        inner = faiss.downcast_index(codes.index)
        assert inner.codes.size() == code_bytes(n_items, plan.n_codes, 0, 24)


def test_vectors_of_one_number_are_compared_exactly():
    """A release without a model has vectors [N, 1] of zeros."""
    assert plan_index(10**6, 1).kind == "exact"


def test_tuning_probes_as_many_cells_as_the_vectors_need():
    """Well apart, a cluster to a cell: few probes do. Isotropic: nearly all are needed."""
    rng = np.random.default_rng(0)
    apart = 10 * rng.standard_normal((64, 16), dtype=np.float32)
    clustered = apart[rng.integers(0, 64, 20_000)] + rng.standard_normal((20_000, 16), dtype=np.float32)
    config = IndexConfig(kind="approximate", factory="RR16,IVF64,PQ8x4fs", n_probes=64)
    easy, hard = build_index(clustered, config), build_index(isotropic(20_000, 16), config)
    assert isinstance(easy, ApproximateIndex)
    assert isinstance(hard, ApproximateIndex)
    assert easy.n_probes <= 16 < 32 <= hard.n_probes


def test_no_items_are_searched_exactly_whatever_was_asked():
    assert plan_index(0, 64, IndexConfig(kind="approximate")).kind == "exact"
    assert isinstance(build_index(np.empty((0, 64), np.float32), IndexConfig(exact_below=0)), ExactIndex)


def test_the_config_overrides_the_plan_and_refuses_what_it_does_not_know():
    plan = plan_index(10, 8, IndexConfig(kind="approximate", factory="HNSW32", refine_factor=2, n_probes=5))
    assert (plan.kind, plan.factory, plan.refine_factor, plan.n_probes) == ("approximate", "HNSW32", 2, 5)
    assert plan_index(10**6, 8, IndexConfig(kind="exact")).kind == "exact"
    with pytest.raises(ValidationError):
        IndexConfig(metric="l2")


@pytest.mark.parametrize("config", [IndexConfig(), IndexConfig(factory="IVF256,PQ32x4fs")], ids=["sweep", "cells"])
def test_at_sixty_thousand_items_recall_at_100_is_above_95_percent(config):
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((300, 64), dtype=np.float32)

    def draw(n: int) -> np.ndarray:
        near = centers[rng.integers(0, 300, n)] + np.float32(0.6) * rng.standard_normal((n, 64), dtype=np.float32)
        return near / np.linalg.norm(near, axis=1, keepdims=True)

    vectors, queries = draw(60_000), draw(50)
    index = build_index(vectors, config)
    assert isinstance(index, ApproximateIndex)
    rows, similarities = index.search(queries, 100)
    assert recall_against_exact(rows, ExactIndex(vectors).search(queries, 100)[0]) >= 0.95
    assert (np.diff(similarities, axis=1) <= 0).all()


def isotropic(n_items: int, dim: int) -> np.ndarray:
    """No clusters, and norms that differ: the hardest there is for codes of two bits a dimension."""
    rng = np.random.default_rng(0)
    norms = np.exp(np.float32(0.3) * rng.standard_normal((n_items, 1), dtype=np.float32))
    return rng.standard_normal((n_items, dim), dtype=np.float32) * norms


def test_an_index_that_finds_too_little_is_made_more_thorough():
    vectors = isotropic(20_000, 32)
    hasty = IndexConfig(kind="approximate", recall_target=0)
    tuned = IndexConfig(kind="approximate", recall_target=0.98)
    queries = vectors[:40]
    exact = ExactIndex(vectors).search(queries, 100)[0]
    assert recall_against_exact(build_index(vectors, hasty).search(queries, 100)[0], exact) < 0.95
    assert recall_against_exact(build_index(vectors, tuned).search(queries, 100)[0], exact) >= 0.97


def test_tuning_looks_at_the_queries_it_is_given():
    """To a query of zeros all items are equal, and any sweep finds the first hundred: nothing to tune."""
    vectors = isotropic(20_000, 32)
    config = IndexConfig(kind="approximate", recall_target=0.98)
    by_items = build_index(vectors, config)
    by_zeros = build_index(vectors, config, queries=np.zeros((4, 32), np.float32))
    assert isinstance(by_items, ApproximateIndex)
    assert isinstance(by_zeros, ApproximateIndex)
    assert by_zeros.refine_factor == 4 < by_items.refine_factor
