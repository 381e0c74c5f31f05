from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex
from recsys.index.planner import IndexConfig, build_index, plan_index
from recsys.metrics.ann import recall_against_exact


def test_exact_below_fifty_thousand_items_and_approximate_from_there():
    assert plan_index(49_999, 64).kind == "exact"
    assert plan_index(50_000, 64).kind == "approximate"


def test_one_sweep_over_codes_at_first_cells_for_more():
    assert plan_index(100_000, 64).factory == "PQ32x4fs"
    assert plan_index(1_000_000, 128).factory == "IVF4096,PQ64x4fs"
    assert plan_index(1_000_000, 128).n_probes == 4096 // 32


def test_the_number_of_codes_divides_every_width():
    for dim in range(1, 300):
        codes = int(plan_index(100_000, dim).factory.removeprefix("PQ").removesuffix("x4fs"))
        assert dim % codes == 0


def test_cells_have_enough_vectors_to_be_trained():
    for n_items in (200_000, 1_000_000, 20_000_000):
        n_cells = int(plan_index(n_items, 64).factory.split(",")[0].removeprefix("IVF"))
        assert n_items / n_cells >= 39


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
