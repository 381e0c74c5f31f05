"""A batch like the release raises no alarm, a different one does, each test for its own reason."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embeddings.quality.drift import Drift, fisher_greater, is_changed, measure_drift
from tests.embeddings.quality.worlds import Vectors, moved, unit, unrelated


def everywhere(vectors: Vectors) -> np.ndarray:
    return np.ones(len(vectors), dtype=np.bool_)


def drift(new: Vectors, released: Vectors, seed: int = 0) -> Drift:
    return measure_drift(new, everywhere(new), released, everywhere(released), seed=seed)


def test_random_parts_of_one_catalogue_hardly_ever_alarm() -> None:
    n_alarms = 0
    for seed in range(15):
        vectors = unrelated(700, 16, seed)
        n_alarms += bool(drift(vectors[:100], vectors[100:], seed).alarms)
    assert n_alarms <= 1  # at 1 % each, two or more of 15 happen once in a hundred


def test_p_values_of_one_distribution_are_spread_evenly() -> None:
    p = []
    for seed in range(15):
        vectors = unrelated(300, 16, seed)
        energy = drift(vectors[:100], vectors[100:], seed).energy
        assert energy is not None
        p.append(energy.p)
    assert 0.3 < np.mean(p) < 0.7


def test_a_shifted_batch_alarms() -> None:
    released = unrelated(1000, 16)
    new = unit(unrelated(120, 16, seed=9) + 0.3 * np.eye(16)[0])
    found = drift(new, released)
    assert "energy" in found.alarms
    assert found.shift is not None
    assert found.shift.size > 2 * found.shift.by_chance


def test_a_batch_of_something_unheard_of_is_far_from_all_released() -> None:
    released = unrelated(1000, 16)
    released = unit(released * (np.arange(16) < 8))  # half of the dimensions are used
    new = np.concatenate([unit(unrelated(90, 16, seed=2) * (np.arange(16) < 8)), np.eye(16, dtype=np.float32)[8:14]])
    found = drift(new, released)
    assert "far" in found.alarms
    assert found.far is not None
    assert set(found.far.farthest[:6].tolist()) == set(range(90, 96))
    np.testing.assert_allclose(found.far.farthest_similarities[:6], 0.0, atol=1e-6)


def test_the_same_items_again_are_as_near_as_can_be() -> None:
    released = unrelated(500, 16)
    far = drift(moved(released[:50], 0.01), released).far
    assert far is not None
    assert far.new.min() > 0.99
    assert far.new_share == 0.0
    assert far.p == 1.0


def test_more_missing_content_alarms_and_less_does_not() -> None:
    vectors = unrelated(700, 16)
    present = everywhere(vectors)
    half = present.copy()
    half[:50] = False
    worse = measure_drift(vectors[:100], half[:100], vectors[100:], present[100:])
    assert worse.alarms == ("missing",)
    assert (worse.missing_new, worse.missing_released, worse.n_new) == (0.5, 0.0, 50)
    better = measure_drift(vectors[100:], present[100:], vectors[:100], half[:100])
    assert better.missing_p == 1.0


def test_a_handful_of_items_is_counted_and_not_judged() -> None:
    found = drift(unrelated(3, 16, seed=4), unrelated(100, 16))
    assert found.n_new == 3
    assert found.energy is None
    assert found.alarms == ()
    nothing = drift(unrelated(0, 16), unrelated(100, 16))
    assert (nothing.n_new, nothing.alarms) == (0, ())


def test_large_samples_are_bounded_and_the_seed_decides_which() -> None:
    vectors = unrelated(5000, 8)
    one, same = (drift(vectors[:2500], vectors[2500:], seed=1) for _ in range(2))
    assert one.far is not None
    assert same.far is not None
    assert len(one.far.new) == 2000
    assert (one.far.new == same.far.new).all()
    assert one.energy == same.energy


def test_fishers_test_is_the_hypergeometric_tail() -> None:
    # 3 of 4 against 1 of 4: (C(4,3) C(4,1) + C(4,4) C(4,0)) / C(8,4) = 17 / 70
    assert fisher_greater(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert fisher_greater(1, 4, 3, 4) == 1.0
    assert fisher_greater(0, 0, 0, 0) == 1.0
    assert fisher_greater(40, 40, 0, 40) == pytest.approx(1 / math.comb(80, 40))


def test_rounding_is_not_a_change_and_another_content_is() -> None:
    released = unrelated(20, 16)
    vectors = released.astype(np.float16).astype(np.float32)
    vectors[7] = moved(released[7:8], 0.1)[0]
    assert np.flatnonzero(is_changed(vectors, released)).tolist() == [7]
