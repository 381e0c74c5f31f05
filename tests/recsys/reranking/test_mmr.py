from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.reranking import RerankConfig, diversify, mmr
from recsys.reranking.mmr import contenders, fill, worth_of

EAST, NORTH, NEARLY_EAST = [1.0, 0.0], [0.0, 1.0], [0.8, 0.6]


def order(value, vectors, weight, limit=10, present=None):
    vectors = np.array(vectors, np.float32)
    known = np.ones(len(vectors), np.bool_) if present is None else np.array(present)
    return mmr(np.array(value, np.float32), vectors, known, limit, weight).tolist()


@st.composite
def worlds(draw):
    n_candidates, dim = draw(st.integers(0, 15)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = rng.standard_normal((n_candidates, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    value = np.array(draw(st.lists(st.integers(-3, 3), min_size=n_candidates, max_size=n_candidates)), np.float32)
    return value, vectors, rng.random(n_candidates) < 0.8


@settings(deadline=None)
@given(worlds(), st.integers(0, 20), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(1, 20))
def test_no_candidate_comes_twice_and_every_place_is_filled(world, limit, weight, window):
    value, vectors, present = world
    for chosen in (
        mmr(value, vectors, present, limit, weight),
        diversify(value, vectors, present, limit, RerankConfig(diversity=weight, window=window)),
    ):
        assert len(chosen) == min(limit, len(value))
        assert len(set(chosen.tolist())) == len(chosen)
        assert chosen.dtype == np.int64


@settings(deadline=None)
@given(worlds(), st.integers(0, 20))
def test_weight_zero_is_the_order_of_value_ties_by_place(world, limit):
    value, vectors, present = world
    by_value = sorted(range(len(value)), key=lambda place: (-value[place], place))
    assert mmr(value, vectors, present, limit, 0.0).tolist() == by_value[:limit]
    assert diversify(value, vectors, present, limit, RerankConfig(diversity=0, window=3)).tolist() == by_value[:limit]


@settings(deadline=None)
@given(worlds(), st.sampled_from([0.1, 0.3, 0.5, 0.9]))
def test_it_is_the_formula_place_by_place(world, weight):
    value, vectors, present = world
    descending = sorted((float(v) for v in value), reverse=True)
    last = len(value) - 1
    spread = (descending[int(0.1 * last)] - descending[int(np.ceil(0.9 * last))]) if len(value) else 0
    spread = spread or (descending[0] - descending[-1] if len(value) else 0) or 1
    chosen: list[int] = []
    for place in mmr(value, vectors, present, len(value), weight).tolist():
        relevance = {}
        for candidate in set(range(len(value))) - set(chosen):
            known = [taken for taken in chosen if present[taken] and present[candidate]]
            alike = max([float(vectors[candidate] @ vectors[taken]) for taken in known], default=0)
            relevance[candidate] = (1 - weight) * float(value[candidate]) / spread - weight * max(alike, 0)
        assert relevance[place] == pytest.approx(max(relevance.values()), abs=1e-5)
        chosen.append(place)


def test_near_duplicates_are_separated():
    # in value order: three copies of one thing, then another
    assert order([1.0, 0.9, 0.8, 0.7], [EAST, EAST, EAST, NORTH], weight=0) == [0, 1, 2, 3]
    assert order([1.0, 0.9, 0.8, 0.7], [EAST, EAST, EAST, NORTH], weight=0.6)[:2] == [0, 3]


def test_the_first_place_is_always_the_most_valuable():
    assert order([0.1, 0.3, 0.2], [EAST, NORTH, EAST], weight=1)[0] == 1


def test_the_more_weight_the_sooner_another_topic_comes():
    """Two topics of ten; the first topic's items are all worth more."""
    vectors = [EAST] * 10 + [NORTH] * 10
    value = np.linspace(1, 0, 20)
    # in units of the spread (from place 1 to place 18: 17/19), north's best is 10/17 below the best of all and
    # east's second 1/17; a repetition costs weight / (1 - weight)
    gap = 10 / 17
    barely_too_little, enough = gap - 1 / 17 - 1e-3, gap
    weights = (0, barely_too_little / (1 + barely_too_little), enough / (1 + enough), 1)
    first_north = [next(place for place, c in enumerate(order(value, vectors, w, 20)) if c >= 10) for w in weights]
    assert first_north == [10, 2, 1, 1]


def test_a_candidate_without_a_vector_is_dissimilar_to_everything():
    vectors = [EAST, NEARLY_EAST, EAST]
    assert order([1.0, 0.9, 0.8], vectors, weight=0.9, present=[True, True, False])[:2] == [0, 2]
    # what its row holds does not matter, not even NaN
    vectors[2] = [np.nan, np.nan]
    assert order([1.0, 0.9, 0.8], vectors, weight=0.9, present=[True, True, False]) == [0, 2, 1]


def test_opposite_is_no_more_diverse_than_unrelated():
    west = [-1.0, 0.0]
    assert order([1.0, 0.9, 0.8], [EAST, NORTH, west], weight=0.9)[:2] == [0, 1]


@settings(deadline=None)
@given(worlds(), st.sampled_from([2.0**-10, 0.5, 4.0, 2.0**10]), st.sampled_from([-64, 0, 64]))
def test_the_weight_means_the_same_whatever_the_unit_of_value(world, factor, shift):
    value, vectors, present = world
    moved = (value * factor + shift * factor).astype(np.float32)
    same = mmr(moved, vectors, present, 10, 0.4).tolist()
    assert same == mmr(value, vectors, present, 10, 0.4).tolist()


def test_one_outstanding_value_does_not_hand_the_rest_to_chance():
    vectors = [EAST] * 20 + [NORTH]
    value = [*np.linspace(1, 0, 20), -1.0]
    plain = order(value, vectors, weight=0.2)
    assert order([1000.0, *value[1:]], vectors, weight=0.2) == plain


def test_values_that_are_not_numbers_come_last():
    vectors = [EAST, NORTH, NEARLY_EAST]
    assert order([np.nan, 0.1, 0.2], vectors, weight=0)[-1] == 0
    assert order([-np.inf, 0.1, 0.2], vectors, weight=0.1)[-1] == 0
    assert sorted(order([np.nan] * 3, vectors, weight=0.5)) == [0, 1, 2]


def test_only_the_window_is_moved():
    vectors = [EAST, EAST, EAST, NORTH]
    value = np.array([0.7, 0.8, 0.9, 0.1], np.float32)
    present = np.ones(4, np.bool_)
    chosen = diversify(value, np.array(vectors, np.float32), present, 4, RerankConfig(diversity=1, window=3))
    assert chosen.tolist() == [2, 1, 0, 3]


def test_the_config_refuses_a_weight_outside_zero_to_one():
    for diversity in (-0.1, 1.1):
        with pytest.raises(ValidationError):
            RerankConfig(diversity=diversity)


@settings(deadline=None)
@given(worlds(), st.integers(1, 20), st.sampled_from([0.05, 0.1, 0.3, 0.9]))
def test_who_cannot_come_into_the_slate_need_not_be_looked_at(world, limit, weight):
    value, vectors, _ = world
    value = -np.sort(-value)
    n_places = min(limit, len(value))
    if not n_places:
        return
    rounded = np.rint(vectors * 127).astype(np.int8) * np.float32(1 / 127)
    worth = worth_of(value, weight)
    near = contenders(worth, n_places, weight)
    assert n_places <= near <= len(value)
    whole = fill(worth, rounded, n_places, weight)
    assert fill(worth[:near], rounded[:near], n_places, weight).tolist() == whole.tolist()


def test_a_small_weight_leaves_few_contenders_and_a_large_one_all():
    value = np.linspace(1, 0, 200).astype(np.float32)
    # the 10-90 % spread is from place 19 to 180: neighbours lie .9 / 161 of worth apart, and a repetition costs .107
    assert contenders(worth_of(value, 0.1), 20, 0.1) == 20 + int(0.1 * 1.07 / (0.9 / 161))
    assert contenders(worth_of(value, 0.9), 20, 0.9) == 200


@pytest.mark.parametrize("n_candidates", [30, 128, 129, 300])
def test_many_and_few_candidates_are_chosen_among_alike(n_candidates):
    """Up to 128 by one matrix of all cosines, beyond it by one row a place."""
    rng = np.random.default_rng(n_candidates)
    vectors = rng.standard_normal((n_candidates, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    value = -np.sort(-rng.standard_normal(n_candidates)).astype(np.float32)
    worth = worth_of(value, 0.5)
    taken: list[int] = []
    for _ in range(20):
        alike = np.maximum(vectors @ vectors[taken].T, 0).max(axis=1, initial=0)
        score = np.where(np.isin(np.arange(n_candidates), taken), -np.inf, worth - 0.5 * alike)
        taken.append(int(score.argmax()))
    assert fill(worth, vectors, 20, 0.5).tolist() == taken
