from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.index.approximate import ApproximateIndex

VECTORS = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def cells() -> ApproximateIndex:
    """Sixteen cells of which one is probed: asks for more than a cell holds all the time."""
    return ApproximateIndex.build(VECTORS, "IVF16,PQ4x4fs", refine_factor=1, n_probes=1)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 1200), n_queries=st.integers(1, 4))
def test_every_place_is_filled_with_distinct_rows_best_first(cells, seed, k, n_queries):
    queries = np.random.default_rng(seed).standard_normal((n_queries, 8)).astype(np.float32)
    rows, similarities = cells.search(queries, k)
    assert rows.shape == (n_queries, min(k, 1000))
    assert rows.min() >= 0
    assert all(len(set(line)) == min(k, 1000) for line in rows.tolist())
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_more_probes_find_more(cells):
    queries = np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    best = (queries @ VECTORS.T).max(axis=1)
    thorough = ApproximateIndex(VECTORS, cells.codes, refine_factor=8, n_probes=16)
    hasty_hits = (cells.search(queries, 1)[1][:, 0] >= best - 1e-5).sum()
    thorough_hits = (thorough.search(queries, 1)[1][:, 0] >= best - 1e-5).sum()
    assert hasty_hits < thorough_hits == 50


def test_vectors_of_another_size_are_refused(cells):
    with pytest.raises(ValueError, match="rebuild"):
        ApproximateIndex(VECTORS[:-1], cells.codes)


def test_a_search_uses_the_threads_it_was_given(cells):
    faiss.omp_set_num_threads(2)
    cells.search(VECTORS[:1], 5)
    assert faiss.omp_get_max_threads() == 1
