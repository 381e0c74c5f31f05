"""Whatever the filter: allowed rows only, none twice, never a short list. The exact index is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex
from recsys.metrics.ann import recall_against_exact
from recsys.ports import AllowedRows

N_ITEMS, DIM = 4000, 8


def clustered(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, DIM), dtype=np.float32)
    return centres[rng.integers(0, 40, n)] + np.float32(0.3) * rng.standard_normal((n, DIM), dtype=np.float32)


VECTORS = clustered(N_ITEMS, 1)
WAYS = {"sweep": "RR8,PQ4x4fs", "cells": "RR8,IVF16,PQ4x4fs", "graph": "HNSW8"}


@pytest.fixture(scope="module", params=WAYS)
def index(request: pytest.FixtureRequest) -> ApproximateIndex:
    """Hasty on purpose: one candidate for each item asked for, one cell of sixteen."""
    return ApproximateIndex.build(VECTORS, WAYS[request.param], refine_factor=1, n_probes=1, threads=1)


@st.composite
def filters(draw: st.DrawFn) -> np.ndarray:
    """Masks of any density: drawn evenly, a half-space (rows that lie together), or a few single rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["even", "together", "few"]))
    if kind == "even":
        return rng.random(N_ITEMS) < draw(st.sampled_from([0.001, 0.05, 0.3, 0.5, 0.9, 0.999]))
    if kind == "together":
        along = VECTORS @ rng.standard_normal(DIM).astype(np.float32)
        return along > np.quantile(along, draw(st.sampled_from([0.02, 0.4, 0.8, 0.99])))
    mask = np.zeros(N_ITEMS, np.bool_)
    mask[rng.integers(0, N_ITEMS, draw(st.integers(0, 5)))] = True
    return mask


@settings(max_examples=60, deadline=None)
@given(mask=filters(), seed=st.integers(0, 2**32 - 1), k=st.integers(0, 300), n_queries=st.integers(0, 3))
def test_allowed_rows_only_none_twice_and_never_a_short_list(index, mask, seed, k, n_queries):
    queries = clustered(n_queries, seed)
    rows, similarities = index.search(queries, k, mask)
    wanted, best = ExactIndex(VECTORS).search(queries, k, mask)
    assert rows.shape == similarities.shape == wanted.shape == (n_queries, min(k, int(mask.sum())))
    for line, values, exact_values in zip(rows, similarities, best, strict=True):
        assert len(set(line.tolist())) == len(line)
        assert (line >= 0).all()
        assert mask[line].all()
        assert (np.diff(values) <= 0).all()
        assert (values <= exact_values + 1e-5).all()


@settings(max_examples=40, deadline=None)
@given(mask=filters(), seed=st.integers(0, 2**32 - 1), k=st.integers(0, 50))
def test_the_exact_index_equals_brute_force_under_a_filter(mask, seed, k):
    query = clustered(1, seed)
    there = np.flatnonzero(mask)
    products = VECTORS[there] @ query[0]
    expected = there[np.lexsort((there, -products))][:k]
    rows, _ = ExactIndex(VECTORS).search(query, k, mask)
    np.testing.assert_allclose(VECTORS[rows[0]] @ query[0], VECTORS[expected] @ query[0], atol=1e-5)
    assert mask[rows[0]].all()


@pytest.mark.parametrize("factory", ["RR8,PQ4x4fs", "RR8,IVF16,PQ4x4fs"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.05, 0.001])
def test_a_filter_costs_no_recall(factory, share):
    """Unfiltered this index finds some 99 %; so it must under every filter, even or one that lies off the query."""
    index = ApproximateIndex.build(VECTORS, factory, refine_factor=8, n_probes=8, threads=1)
    queries, exact = clustered(40, 9), ExactIndex(VECTORS)
    along = VECTORS @ queries[0]
    for mask in (np.random.default_rng(4).random(N_ITEMS) < share, along < np.quantile(along, share)):
        found, wanted = index.search(queries, 20, mask)[0], exact.search(queries, 20, mask)[0]
        assert recall_against_exact(found, wanted) >= 0.98


def test_allowed_rows_say_the_same_in_three_ways():
    mask = np.array([True, False, False, True, True, False, False, False, True, False])
    for allowed in (AllowedRows(mask, 10), AllowedRows(np.array([8, 0, 4, 3]), 10)):
        assert allowed.n_allowed == 4
        assert allowed.rows.tolist() == [0, 3, 4, 8]
        assert allowed.mask.tolist() == mask.tolist()
        assert allowed.bits.tolist() == [0b00011001, 0b00000001]


def test_a_prepared_filter_is_not_prepared_again():
    prepared = AllowedRows(np.array([1, 2]), 5)
    assert AllowedRows.of(prepared, 5) is prepared
