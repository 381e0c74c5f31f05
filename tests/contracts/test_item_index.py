"""What every ItemIndex must do, run on all adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex
from recsys.index.files import open_index, write_index
from recsys.metrics.ann import recall_against_exact
from recsys.ports import AllowedRows, ItemIndex

Build = Callable[[NDArray[np.float32]], ItemIndex]

N_ITEMS, DIM = 3000, 16
NONE = np.empty((0, DIM), np.float32)

ADAPTERS: dict[str, Build] = {
    "exact": ExactIndex,
    "codes": lambda vectors: ApproximateIndex.build(vectors, f"PQ{DIM // 2}x4fs"),
    "weighted codes": lambda vectors: ApproximateIndex.build(vectors, f"W{DIM},PQ{DIM // 2}x4fs"),
    "cells": lambda vectors: ApproximateIndex.build(vectors, f"IVF16,PQ{DIM // 2}x4fs", n_probes=4),
    "rotated cells": lambda vectors: ApproximateIndex.build(vectors, f"RR16,IVF16,PQ{DIM // 2}x4fs", n_probes=4),
    "mapped cells": lambda vectors: ApproximateIndex.build(vectors, "IVF16,SQ8", n_probes=8),
    "a snapshot": lambda vectors: ExactIndex(vectors).with_changes(NONE, np.ones(N_ITEMS, np.bool_)),
    "a snapshot, half added": lambda vectors: ExactIndex(vectors[:1500]).with_changes(
        vectors[1500:], np.ones(N_ITEMS, np.bool_)
    ),
    "graph": lambda vectors: ApproximateIndex.build(vectors, "HNSW16"),
}

SNAPSHOTS = {name for name in ADAPTERS if name.startswith("a snapshot")}
"""They have no file: the next release holds what they add."""


def clustered(n_items: int, dim: int, *, n_clusters: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_clusters, dim))
    vectors = centers[rng.integers(0, n_clusters, n_items)] + 0.5 * rng.standard_normal((n_items, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return clustered(N_ITEMS, DIM, n_clusters=30, seed=0)


@pytest.fixture(scope="module")
def queries() -> NDArray[np.float32]:
    return clustered(20, DIM, n_clusters=30, seed=0)


CASES = [(name, "built") for name in ADAPTERS] + [(name, "from its file") for name in ADAPTERS if name not in SNAPSHOTS]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}, {case[1]}")
def index(request: pytest.FixtureRequest, vectors, tmp_path_factory: pytest.TempPathFactory) -> ItemIndex:
    name, how = request.param
    built = ADAPTERS[name](vectors)
    if how == "built":
        return built
    path: Path = tmp_path_factory.mktemp("index") / "items.index"
    write_index(built, path)
    return open_index(path, vectors)


def test_it_knows_its_size(index):
    assert index.n_items == N_ITEMS


@pytest.mark.parametrize("k", [1, 10, 100])
def test_it_finds_nearly_all_that_an_exact_search_finds(index, vectors, queries, k):
    rows, similarities = index.search(queries, k)
    assert (rows.shape, rows.dtype) == ((20, k), np.int64)
    assert (similarities.shape, similarities.dtype) == ((20, k), np.float32)
    assert recall_against_exact(rows, np.argsort(-(queries @ vectors.T), axis=1)[:, :k]) >= 0.95


def test_similarities_are_inner_products_best_first(index, vectors, queries):
    rows, similarities = index.search(queries, 50)
    np.testing.assert_allclose(similarities, np.einsum("bkd,bd->bk", vectors[rows], queries), atol=1e-5)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_no_row_comes_twice(index, queries):
    assert all(len(set(line)) == 200 for line in index.search(queries, 200)[0].tolist())


@pytest.mark.parametrize("k", [N_ITEMS - 1, N_ITEMS, N_ITEMS + 1, 10 * N_ITEMS])
def test_more_than_there_are_gives_all_there_are_and_no_minus_one(index, queries, k):
    rows, similarities = index.search(queries[:2], k)
    assert rows.shape == similarities.shape == (2, min(k, N_ITEMS))
    assert all(len(set(line)) == min(k, N_ITEMS) and min(line) >= 0 for line in rows.tolist())


def test_a_middling_k_is_filled_although_the_first_cells_hold_less(index, queries):
    k = N_ITEMS // 10
    rows, _ = index.search(queries, k)
    assert rows.shape == (20, k)
    assert (rows >= 0).all()


def test_nothing_asked_is_nothing_found(index, queries):
    assert index.search(queries, 0)[0].shape == (20, 0)
    assert index.search(queries[:0], 5)[0].shape == (0, 5)
    assert index.search_within(queries[0], np.arange(10), 0)[0].shape == (0,)
    assert index.search_within(queries[0], np.empty(0, np.int64), 5)[0].shape == (0,)


def test_search_within_is_exact_over_the_given_rows(index, vectors, queries):
    some = np.random.default_rng(1).choice(N_ITEMS, 100, replace=False)
    rows, similarities = index.search_within(queries[0], some, 10)
    assert rows.tolist() == some[np.argsort(-(vectors[some] @ queries[0]))][:10].tolist()
    np.testing.assert_allclose(similarities, vectors[rows] @ queries[0], atol=1e-6)


def test_search_within_gives_all_rows_when_k_is_larger_and_a_repeated_row_once(index, queries):
    rows, similarities = index.search_within(queries[0], np.array([7, 7, 3]), 10)
    assert sorted(rows.tolist()) == [3, 7]
    assert len(similarities) == 2


def test_one_query_and_a_batch_agree(index, queries):
    batch = index.search(queries, 20)[0]
    assert [index.search(query[None], 20)[0][0].tolist() for query in queries] == batch.tolist()


def test_threads_may_search_at_once(index, queries):
    from concurrent.futures import ThreadPoolExecutor

    expected = index.search(queries, 20)[0].tolist()
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: index.search(queries, 20)[0].tolist(), range(16)):
            assert found == expected


def test_a_query_that_is_no_vector_of_this_index_is_refused(index):
    with pytest.raises(ValueError, match="shape"):
        index.search(np.zeros((1, DIM + 1), np.float32), 5)
    with pytest.raises(ValueError, match="NaN"):
        index.search(np.full((1, DIM), np.nan, np.float32), 5)
    with pytest.raises(ValueError, match="NaN"):
        index.search_within(np.full(DIM, np.nan, np.float32), np.arange(3), 5)


def test_rows_that_do_not_exist_are_refused(index, queries):
    with pytest.raises(ValueError, match="rows must lie in"):
        index.search_within(queries[0], np.array([-1, 2]), 1)
    with pytest.raises(ValueError, match="rows must lie in"):
        index.search_within(queries[0], np.array([N_ITEMS]), 1)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.0004])
def test_a_filter_leaves_as_many_answers_as_there_are_and_nearly_all_the_right_ones(index, vectors, queries, share):
    mask = np.random.default_rng(2).random(N_ITEMS) < share
    there = np.flatnonzero(mask)
    rows, similarities = index.search(queries, 50, mask)
    assert rows.shape == similarities.shape == (20, min(50, len(there)))
    exact = there[np.argsort(-(queries @ vectors[there].T), axis=1)[:, :50]]
    assert recall_against_exact(rows, exact) >= 0.95
    np.testing.assert_allclose(similarities, np.einsum("bkd,bd->bk", vectors[rows], queries), atol=1e-5)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_a_filter_may_be_a_mask_or_rows_or_prepared(index, queries):
    mask = np.random.default_rng(3).random(N_ITEMS) < 0.3
    as_mask = index.search(queries, 20, mask)[0].tolist()
    assert index.search(queries, 20, np.flatnonzero(mask)[::-1].copy())[0].tolist() == as_mask
    prepared = AllowedRows(mask, N_ITEMS)
    assert index.search(queries, 20, prepared)[0].tolist() == as_mask
    assert index.search(queries, 20, prepared)[0].tolist() == as_mask


def test_a_filter_that_lets_nothing_pass_gives_nothing_and_one_that_lets_all_pass_changes_nothing(index, queries):
    assert index.search(queries, 20, np.zeros(N_ITEMS, np.bool_))[0].shape == (20, 0)
    everything = index.search(queries, 20, np.ones(N_ITEMS, np.bool_))[0]
    assert everything.tolist() == index.search(queries, 20)[0].tolist()


def test_a_filter_of_another_catalogue_is_refused(index, queries):
    with pytest.raises(ValueError, match="shape"):
        index.search(queries, 5, np.ones(N_ITEMS + 1, np.bool_))
    with pytest.raises(ValueError, match="must lie in"):
        index.search(queries, 5, np.array([N_ITEMS]))
    with pytest.raises(ValueError, match="distinct"):
        index.search(queries, 5, np.array([3, 3]))
    with pytest.raises(ValueError, match="items"):
        index.search(queries, 5, AllowedRows(np.ones(3, np.bool_), 3))


def test_a_snapshot_answers_with_what_was_added_and_not_with_what_is_hidden(index, vectors, queries):
    nearest = index.search(queries[:1], 10)[0][0]
    shown = np.ones(N_ITEMS + 1, np.bool_)
    shown[nearest[:5]] = False
    changed = index.with_changes(3 * queries[:1], shown)
    assert changed.n_items == N_ITEMS + 1
    rows, similarities = changed.search(queries[:1], 6)
    assert rows[0].tolist() == [N_ITEMS, *nearest[5:]]
    assert similarities[0, 0] == pytest.approx(3 * float(queries[0] @ queries[0]), rel=1e-5)
    within, _ = changed.search_within(queries[0], np.array([nearest[0], nearest[7], N_ITEMS]), 5)
    assert within.tolist() == [N_ITEMS, nearest[7]]
    assert index.search(queries[:1], 10)[0][0].tolist() == nearest.tolist()
