"""The axioms that only the Shapley value keeps, and the mean over all orders in which players may arrive."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.explanations.shapley import Worth, coalitions, shapley_values

SIZES, SEEDS = st.integers(1, 5), st.integers(0, 2**32 - 1)


def game(n_players: int, seed: int, n_items: int = 3) -> Worth:
    return np.random.default_rng(seed).normal(0, 10, (1 << n_players, n_items))


def by_arrival(worth: Worth, n_players: int) -> Worth:
    """What each player adds to those before it, in the mean over all orders."""
    orders = list(permutations(range(n_players)))
    total = np.zeros((n_players, *worth.shape[1:]))
    for order in orders:
        coalition = 0
        for player in order:
            total[player] += worth[coalition | 1 << player] - worth[coalition]
            coalition |= 1 << player
    return total / len(orders)


def with_bits_swapped(coalition: int, first: int, second: int) -> int:
    has_first, has_second = coalition >> first & 1, coalition >> second & 1
    without = coalition & ~(1 << first | 1 << second)
    return without | has_first << second | has_second << first


def test_a_coalition_is_a_number_whose_bits_are_its_players() -> None:
    assert coalitions(2).tolist() == [[False, False], [True, False], [False, True], [True, True]]
    assert coalitions(0).shape == (1, 0)


def test_two_players_share_what_only_both_together_bring() -> None:
    # alone 1 and 2, together 9: each gets what it brings alone and half of the 6 beyond that
    assert shapley_values(np.array([0.0, 1, 2, 9])).tolist() == [1 + 3, 2 + 3]


@given(SIZES, SEEDS)
def test_it_is_the_mean_over_all_orders_of_arrival(n_players: int, seed: int) -> None:
    worth = game(n_players, seed)
    np.testing.assert_allclose(shapley_values(worth), by_arrival(worth, n_players), atol=1e-9)


@given(st.integers(0, 7), SEEDS)
def test_the_parts_add_up_to_what_all_bring(n_players: int, seed: int) -> None:
    worth = game(n_players, seed)
    np.testing.assert_allclose(shapley_values(worth).sum(axis=0), worth[-1] - worth[0], atol=1e-6)


@given(st.integers(2, 5), SEEDS, st.data())
def test_players_that_bring_the_same_get_the_same(n_players: int, seed: int, data: st.DataObject) -> None:
    first, second = data.draw(st.permutations(range(n_players)))[:2]
    worth = game(n_players, seed)
    worth += worth[[with_bits_swapped(each, first, second) for each in range(len(worth))]]
    values = shapley_values(worth)
    np.testing.assert_allclose(values[first], values[second], atol=1e-9)


@given(SIZES, SEEDS, st.data())
def test_a_player_that_changes_nothing_gets_nothing(n_players: int, seed: int, data: st.DataObject) -> None:
    dummy = data.draw(st.integers(0, n_players - 1))
    worth = game(n_players, seed)[np.arange(1 << n_players) & ~(1 << dummy)]
    np.testing.assert_array_equal(shapley_values(worth)[dummy], 0)


@given(SIZES, SEEDS, SEEDS)
def test_of_two_games_together_each_gets_what_it_gets_of_both(n_players: int, seed: int, other: int) -> None:
    one, two = game(n_players, seed), game(n_players, other)
    np.testing.assert_allclose(shapley_values(one + two), shapley_values(one) + shapley_values(two), atol=1e-9)


@pytest.mark.parametrize("n", [0, 3, 6])
def test_what_is_no_game_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=r"2\*\*n coalitions"):
        shapley_values(np.zeros(n))
