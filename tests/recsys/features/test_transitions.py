import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.dataset import Sequences
from recsys.features import transitions
from recsys.features.transitions import Neighbours, TransitionConfig, fit_transitions


def sequences(*histories, ordered=True):
    lengths = [len(history) for history in histories]
    rows = np.array([row for history in histories for row in history], np.int64)
    zeros = np.zeros(len(rows), np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(tuple(map(str, range(len(lengths)))), offsets, rows, zeros, zeros, ordered=ordered)


PLAIN = TransitionConfig(window=2, decay=0.5, row_power=1, popularity_power=0, shrinkage=0, n_neighbours=5)


def weight(neighbours, source, target):
    return neighbours.weights[source][neighbours.rows[source] == target].sum()


def test_weights_are_shares_of_what_leaves_an_item_decayed_by_the_steps():
    neighbours = fit_transitions(sequences([0, 1, 2], [0, 2]), 3, PLAIN)
    # From 0: to 1 in one step (1), to 2 in two steps (0.5) and in one step (1); 2.5 leave it.
    assert weight(neighbours, 0, 1) == pytest.approx(1 / 2.5)
    assert weight(neighbours, 0, 2) == pytest.approx((0.5 + 1) / 2.5)
    assert weight(neighbours, 1, 2) == pytest.approx(1 / 1)
    assert (neighbours.rows[2] == -1).all()


def test_both_powers_divide_by_the_masses_that_the_formula_names():
    config = PLAIN.model_copy(update={"row_power": 0.5, "popularity_power": 0.25, "shrinkage": 5.0})
    neighbours = fit_transitions(sequences([0, 1, 2], [0, 2]), 3, config)
    # 2.5 leave 0; at 2 arrive 1 (from 1) + 0.5 + 1 (from 0) = 2.5.
    assert weight(neighbours, 0, 2) == pytest.approx(1.5 / 2.5**0.5 / (2.5 + 5) ** 0.25)


def test_users_do_not_run_into_each_other():
    neighbours = fit_transitions(sequences([0], [1]), 2, PLAIN)
    assert (neighbours.rows == -1).all()


def test_the_latest_interaction_votes_most():
    neighbours = Neighbours(np.array([[2], [3], [-1], [-1]], np.int32), np.array([[1.0], [1.0], [0], [0]], np.float32))
    scores = neighbours.score_all(np.array([0, 1]))
    assert scores.tolist() == pytest.approx([0, 0, 0.8, 1.0])
    assert neighbours.top_rows(np.array([0, 1]), 5).tolist() == [3, 2]


def test_the_score_of_candidates_is_the_score_of_all_items_looked_up():
    rng = np.random.default_rng(0)
    neighbours = fit_transitions(sequences(*rng.integers(0, 30, (20, 12))), 30)
    history, candidates = rng.integers(0, 30, 9), rng.permutation(30)[:11]
    assert np.array_equal(neighbours.score(history, candidates), neighbours.score_all(history)[candidates])


def test_rows_beyond_the_neighbours_and_empty_histories_score_nought():
    neighbours = fit_transitions(sequences([0, 1]), 2, PLAIN)
    assert neighbours.score(np.array([], np.int64), np.array([0, 1])).tolist() == [0, 0]
    assert neighbours.score(np.array([7, -1]), np.array([0, 7])).tolist() == [0, 0]
    assert neighbours.score_all(np.array([0]), n_items=4).tolist() == pytest.approx([0, 1, 0, 0])
    assert neighbours.top_rows(np.array([], np.int64), 3).tolist() == []


def test_a_newer_item_in_the_history_keeps_its_place():
    neighbours = fit_transitions(sequences([0, 1]), 2, PLAIN)
    assert neighbours.score(np.array([0, 99]), np.array([1])).tolist() == pytest.approx([0.8])


def test_without_order_pairs_count_both_ways_and_order_does_not_matter():
    one = fit_transitions(sequences([0, 1, 2], ordered=False), 3, PLAIN)
    other = fit_transitions(sequences([2, 0, 1], ordered=False), 3, PLAIN)
    assert np.array_equal(one.weights, other.weights)
    assert weight(one, 2, 0) == weight(one, 0, 2) > 0
    history = np.array([0, 1])
    assert np.array_equal(one.score_all(history), one.score_all(history[::-1]))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=6),
    st.integers(1, 4),
    st.sampled_from([1, 3, 10_000]),
)
def test_any_block_size_gives_what_counting_pair_by_pair_gives(histories, window, pairs_per_block):
    config = TransitionConfig(window=window, row_power=0, popularity_power=0, n_neighbours=7)
    expected = np.zeros((7, 7))
    for history in histories:
        for at, source in enumerate(history):
            for step, target in enumerate(history[at + 1 : at + 1 + window]):
                expected[source, target] += 0.8**step
    np.fill_diagonal(expected, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "MAX_PAIRS_PER_BLOCK", pairs_per_block)
        neighbours = fit_transitions(sequences(*histories), 7, config)
    counted = np.zeros((7, 7))
    for source, (rows, weights) in enumerate(zip(neighbours.rows, neighbours.weights, strict=True)):
        counted[source, rows[rows >= 0]] = weights[rows >= 0]
    assert np.allclose(counted, expected, atol=1e-5)


def test_only_the_best_neighbours_are_kept_best_first():
    neighbours = fit_transitions(sequences([0, 3], [0, 3], [0, 1], [0, 2]), 4, TransitionConfig(n_neighbours=2))
    assert neighbours.rows[0].tolist() == [3, 1]
    assert neighbours.weights[0, 0] > neighbours.weights[0, 1] > 0
