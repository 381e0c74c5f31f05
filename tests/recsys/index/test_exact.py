from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.index.exact import ExactIndex, largest


@st.composite
def worlds(draw):
    """Small integer vectors: inner products are exact, and there are many ties."""
    n_items, dim = draw(st.integers(0, 12)), draw(st.integers(1, 4))
    values = st.integers(-2, 2)
    vectors = draw(st.lists(st.lists(values, min_size=dim, max_size=dim), min_size=n_items, max_size=n_items))
    query = draw(st.lists(values, min_size=dim, max_size=dim))
    return np.array(vectors, np.float32).reshape(n_items, dim), np.array(query, np.float32)


@settings(deadline=None)
@given(worlds(), st.integers(0, 15))
def test_it_equals_brute_force_ties_by_row(world, k):
    vectors, query = world
    expected = sorted(((-float(vector @ query), row) for row, vector in enumerate(vectors)))[:k]
    rows, similarities = ExactIndex(vectors).search(query[None], k)
    assert rows[0].tolist() == [row for _, row in expected]
    assert similarities[0].tolist() == [-minus for minus, _ in expected]


@settings(deadline=None)
@given(worlds(), st.integers(0, 15), st.data())
def test_within_rows_it_equals_brute_force_over_them(world, k, data):
    vectors, query = world
    within = data.draw(st.lists(st.integers(0, len(vectors) - 1))) if len(vectors) else []
    expected = sorted((-float(vectors[row] @ query), row) for row in set(within))[:k]
    rows, similarities = ExactIndex(vectors).search_within(query, np.array(within, np.int64), k)
    assert rows.tolist() == [row for _, row in expected]
    assert similarities.tolist() == [-minus for minus, _ in expected]


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20), st.data())
def test_largest_are_distinct_descending_and_no_smaller_than_what_is_left(values, data):
    k = data.draw(st.integers(0, len(values)))
    places, kept = largest(np.array(values, np.float32), k)
    assert len(set(places.tolist())) == k
    assert kept.tolist() == sorted(values, reverse=True)[:k]


def test_batches_larger_than_a_chunk_are_searched_whole(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    queries = np.random.default_rng(1).standard_normal((7, 4)).astype(np.float32)
    whole = ExactIndex(vectors).search(queries, 5)[0].tolist()
    monkeypatch.setattr("recsys.index.exact.MAX_CHUNK_BYTES", 2 * 50 * 4)
    assert ExactIndex(vectors).search(queries, 5)[0].tolist() == whole


def test_an_empty_catalogue_answers_with_nothing():
    index = ExactIndex(np.empty((0, 8), np.float32))
    rows, similarities = index.search(np.zeros((2, 8), np.float32), 10)
    assert rows.shape == similarities.shape == (2, 0)


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="NaN or infinite"):
        ExactIndex(np.array([[1.0, np.inf]], np.float32))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        ExactIndex(np.zeros(3, np.float32))
