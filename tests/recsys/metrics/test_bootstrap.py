from __future__ import annotations

import numpy as np
import pytest

from recsys.metrics.bootstrap import Estimate, bootstrap_difference, bootstrap_mean


def one(values, users, *, seed=0, n_bootstrap=2000):
    (estimate,) = bootstrap_mean(
        np.asarray(values, float)[:, None], np.asarray(users), n_bootstrap=n_bootstrap, seed=seed
    )
    return estimate


def test_the_value_is_the_mean_over_rows():
    assert one([1, 0, 0, 1, 1], [0, 0, 1, 2, 2]).value == pytest.approx(3 / 5)


def test_a_constant_has_an_interval_of_no_width():
    estimate = one([0.25] * 40, range(40))
    assert (estimate.low, estimate.high) == pytest.approx((0.25, 0.25))


def test_the_interval_is_that_of_the_normal_approximation_for_many_users():
    values = np.random.default_rng(1).standard_normal(2000)
    estimate = one(values, range(2000))
    half_width = 1.96 * values.std() / np.sqrt(2000)
    assert estimate.high - estimate.value == pytest.approx(half_width, rel=0.1)
    assert estimate.value - estimate.low == pytest.approx(half_width, rel=0.1)


def test_users_are_resampled_not_rows():
    """100 users with 25 equal rows each: 2,500 rows, but the certainty of 100 users."""
    of_user = np.random.default_rng(2).standard_normal(100)
    by_user = one(np.repeat(of_user, 25), np.repeat(np.arange(100), 25))
    by_row = one(np.repeat(of_user, 25), np.arange(2500))
    assert (by_user.high - by_user.low) / (by_row.high - by_row.low) == pytest.approx(np.sqrt(25), rel=0.1)


def test_the_order_of_rows_and_the_numbers_of_users_do_not_matter():
    values, users = np.arange(6.0), np.array([0, 1, 2, 0, 1, 2])
    shuffled = np.array([5, 3, 0, 1, 4, 2])
    assert one(values, users) == one(values[shuffled], users[shuffled] * 7 + 3)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(3).standard_normal(50)
    assert one(values, range(50), seed=4) == one(values, range(50), seed=4)
    assert one(values, range(50), seed=4) != one(values, range(50), seed=5)


def test_blocks_of_resamples_cover_all_of_them(monkeypatch):
    monkeypatch.setattr("recsys.metrics.bootstrap.MAX_DRAWS_AT_ONCE", 64)
    values = np.random.default_rng(1).standard_normal(30)
    half_width = 1.96 * values.std() / np.sqrt(30)
    estimate = one(values, range(30))
    assert estimate.high - estimate.low == pytest.approx(2 * half_width, rel=0.1)


def test_measures_share_their_resamples():
    values = np.random.default_rng(5).standard_normal((30, 1))
    first, twice = bootstrap_mean(np.hstack([values, 2 * values]), np.arange(30), n_bootstrap=200, seed=0)
    assert (twice.low, twice.high) == pytest.approx((2 * first.low, 2 * first.high))


def test_a_paired_difference_sees_what_two_intervals_do_not():
    """Users differ by far more than the models do, but one model is better for each of them."""
    easy = np.random.default_rng(6).standard_normal(200)
    a, b = easy + 0.01, easy
    difference = bootstrap_difference(a, b, np.arange(200), n_bootstrap=500, seed=0)
    assert difference.value == pytest.approx(0.01)
    assert difference.excludes_zero
    assert one(a, range(200)).low < one(b, range(200)).high


def test_a_model_is_not_different_from_itself():
    values = np.random.default_rng(7).standard_normal(20)
    difference = bootstrap_difference(values, values, np.arange(20), n_bootstrap=100, seed=0)
    assert difference == Estimate(0.0, 0.0, 0.0)
    assert not difference.excludes_zero


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(8)
    held = 0
    for seed in range(200):
        estimate = one(rng.exponential(1.0, 150), range(150), seed=seed, n_bootstrap=400)
        held += estimate.low <= 1.0 <= estimate.high
    assert 0.88 <= held / 200 <= 0.99


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        one([], [])
    with pytest.raises(ValueError, match="same rows"):
        bootstrap_difference(np.ones(2), np.ones(3), np.arange(2), n_bootstrap=10, seed=0)
