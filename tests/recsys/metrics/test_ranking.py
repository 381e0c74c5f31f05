from __future__ import annotations

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.metrics.ranking import (
    MISS,
    NO_ITEM,
    hit_rate_of_hits,
    hits_in_lists,
    mrr_of_hits,
    mrr_of_ranks,
    ndcg_of_hits,
    ndcg_of_ranks,
    rank_in_lists,
    rank_of_target,
    recall_of_hits,
    recall_of_ranks,
)


def rank(scores: list[float], target: int, excluded: list[int] | None = None) -> int:
    pairs = (np.zeros(len(excluded), np.int64), np.array(excluded, np.int64)) if excluded is not None else None
    return int(rank_of_target(np.array([scores], np.float32), np.array([target]), pairs)[0])


def test_the_best_item_has_rank_one():
    assert rank([0.1, 0.9, 0.5], target=1) == 1
    assert rank([0.1, 0.9, 0.5], target=0) == 3


def test_a_model_that_gives_one_score_to_all_ranks_every_target_last():
    assert [rank([0.5] * 4, target) for target in range(4)] == [4, 4, 4, 4]


def test_an_excluded_item_does_not_stand_in_the_way():
    assert rank([0.9, 0.8, 0.7], target=2) == 3
    assert rank([0.9, 0.8, 0.7], target=2, excluded=[0]) == 2
    assert rank([0.9, 0.8, 0.7], target=2, excluded=[0, 0, 1]) == 1


def test_excluding_the_target_or_a_worse_item_changes_nothing():
    assert rank([0.9, 0.8, 0.7], target=1, excluded=[1]) == 2
    assert rank([0.9, 0.8, 0.7], target=1, excluded=[2]) == 2


def test_nan_never_helps():
    nan = float("nan")
    assert rank([0.9, nan, 0.7], target=1) == 3
    assert rank([0.9, nan, 0.7], target=2) == 3
    assert rank([-np.inf, 0.1, -np.inf], target=0) == 3


def test_exclusion_is_per_query():
    scores = np.array([[3, 2, 1], [3, 2, 1]], np.float32)
    excluded = (np.array([1]), np.array([0]))
    assert rank_of_target(scores, np.array([1, 1]), excluded).tolist() == [2, 1]


@settings(deadline=None)
@given(st.data())
def test_the_rank_is_that_of_a_sorted_list_with_the_target_behind_its_equals(data):
    n_items = data.draw(st.integers(1, 12))
    scores = data.draw(st.lists(st.integers(0, 4), min_size=n_items, max_size=n_items))
    target = data.draw(st.integers(0, n_items - 1))
    excluded = data.draw(st.sets(st.integers(0, n_items - 1)))
    eligible = [item for item in range(n_items) if item == target or item not in excluded]
    eligible.sort(key=lambda item: (-scores[item], item == target))
    assert rank([float(score) for score in scores], target, sorted(excluded)) == eligible.index(target) + 1


def test_measures_of_ranks():
    ranks = np.array([1, 2, 10, 11, MISS])
    assert recall_of_ranks(ranks, 10).tolist() == [1, 1, 1, 0, 0]
    assert ndcg_of_ranks(ranks, 10) == pytest.approx([1, 1 / log2(3), 1 / log2(11), 0, 0])
    assert mrr_of_ranks(ranks, 10) == pytest.approx([1, 1 / 2, 1 / 10, 0, 0])


def test_rank_in_lists():
    lists = np.array([[5, 7, 9], [7, 5, NO_ITEM], [1, NO_ITEM, NO_ITEM]])
    assert rank_in_lists(lists, np.array([9, 5, 5])).tolist() == [3, 2, MISS]
    assert rank_in_lists(np.empty((2, 0), np.int64), np.array([9, 5])).tolist() == [MISS, MISS]


def test_measures_of_lists_with_several_relevant_items():
    lists = np.array([[4, 2, 7, 1], [3, 0, NO_ITEM, NO_ITEM]])
    relevant = [{2, 1, 9}, {5}]
    n_relevant = np.array([3, 1])
    hits = hits_in_lists(lists, [list(items) for items in relevant])
    assert hits.tolist() == [[False, True, False, True], [False] * 4]
    assert recall_of_hits(hits, n_relevant, 3) == pytest.approx([1 / 3, 0])
    assert recall_of_hits(hits, n_relevant, 4) == pytest.approx([2 / 3, 0])
    assert hit_rate_of_hits(hits, 1).tolist() == [0, 0]
    assert hit_rate_of_hits(hits, 2).tolist() == [1, 0]
    assert mrr_of_hits(hits, 4) == pytest.approx([1 / 2, 0])
    found, best = 1 / log2(3) + 1 / log2(5), 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    assert ndcg_of_hits(hits, n_relevant, 4) == pytest.approx([found / best, 0])
    assert ndcg_of_hits(hits, n_relevant, 2) == pytest.approx([(1 / log2(3)) / (1 + 1 / log2(3)), 0])


def test_padding_is_never_a_hit_not_even_beside_the_last_item_of_the_query_before():
    lists = np.array([[6], [NO_ITEM]])
    assert hits_in_lists(lists, [[6], [6]]).tolist() == [[True], [False]]


def test_lists_shorter_than_k_and_users_with_nothing_relevant_count_zero():
    hits = hits_in_lists(np.empty((2, 0), np.int64), [[1], []])
    n_relevant = np.array([1, 0])
    assert ndcg_of_hits(hits, n_relevant, 10).tolist() == [0, 0]
    assert mrr_of_hits(hits, 10).tolist() == [0, 0]
    assert recall_of_hits(hits, n_relevant, 10).tolist() == [0, 0]


@pytest.fixture(scope="module")
def ranx():
    """The independent implementation, uncompiled: numba would compile for 40 s to save milliseconds."""
    numba = pytest.importorskip("numba", reason="ranx needs numba, which is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "DISABLE_JIT", True)
        yield pytest.importorskip("ranx", reason="ranx, the independent implementation, is not installed")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12))
def test_ranx_agrees(ranx, seed, k):
    rng = np.random.default_rng(seed)
    n_users, n_items, length = 20, 30, 10
    lists = np.stack([rng.permutation(n_items)[:length] for _ in range(n_users)])
    relevant = [rng.choice(n_items, size=rng.integers(1, 15), replace=False) for _ in range(n_users)]
    n_relevant = np.array([len(items) for items in relevant])
    qrels = ranx.Qrels({f"q{u}": {f"i{i}": 1 for i in items} for u, items in enumerate(relevant)})
    run = ranx.Run(
        {f"q{u}": {f"i{i}": float(length - place) for place, i in enumerate(line)} for u, line in enumerate(lists)}
    )
    theirs = ranx.evaluate(qrels, run, [f"{name}@{k}" for name in ("recall", "ndcg", "mrr", "hit_rate")])
    hits = hits_in_lists(lists, relevant)
    assert recall_of_hits(hits, n_relevant, k).mean() == pytest.approx(theirs[f"recall@{k}"])
    assert ndcg_of_hits(hits, n_relevant, k).mean() == pytest.approx(theirs[f"ndcg@{k}"])
    assert mrr_of_hits(hits, k).mean() == pytest.approx(theirs[f"mrr@{k}"])
    assert hit_rate_of_hits(hits, k).mean() == pytest.approx(theirs[f"hit_rate@{k}"])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 12))
def test_ranx_agrees_on_the_rank_of_one_target(ranx, seed, k):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((20, 15)).astype(np.float32)
    targets = rng.integers(0, 15, 20)
    qrels = ranx.Qrels({f"q{u}": {f"i{target}": 1} for u, target in enumerate(targets)})
    run = ranx.Run({f"q{u}": {f"i{i}": float(score) for i, score in enumerate(line)} for u, line in enumerate(scores)})
    theirs = ranx.evaluate(qrels, run, [f"{name}@{k}" for name in ("recall", "ndcg", "mrr")])
    ranks = rank_of_target(scores, targets)
    assert recall_of_ranks(ranks, k).mean() == pytest.approx(theirs[f"recall@{k}"])
    assert ndcg_of_ranks(ranks, k).mean() == pytest.approx(theirs[f"ndcg@{k}"])
    assert mrr_of_ranks(ranks, k).mean() == pytest.approx(theirs[f"mrr@{k}"])
