"""Thresholds keep what they promise on items that nobody has seen."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.tagging.held_out import Evidence, cross_fitted
from embeddings.tagging.thresholds import NEVER, ThresholdRule, choose_threshold, wilson, wilson_low

Floats = NDArray[np.float32]


def rule(precision: float = 0.9, no_precision: float = 0.98, sureness: float = 0.95) -> ThresholdRule:
    return ThresholdRule(
        precision=precision, no_precision=no_precision, sureness=sureness, default=0.5, unsure_from=0.5
    )


def world(n: int, seed: int) -> tuple[Floats, Floats]:
    """Confidences and labels drawn by them: from t on, a yes is right in (1 + t) / 2 of the items."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    return confidence.astype(np.float32), (rng.random(n) < confidence).astype(np.float32)


def test_the_precision_is_reached_on_fresh_items() -> None:
    """The answer is known: .8 is the lowest confidence from which a yes is right in .9 of the items."""
    n_reached, thresholds = 0, []
    for seed in range(100):
        chosen = choose_threshold(*world(2000, seed), rule())
        thresholds.append(chosen.threshold.yes)
        confidence, y = world(20_000, 10_000 + seed)
        above = confidence >= chosen.threshold.yes
        n_reached += not above.any() or wilson(int(y[above].sum()), int(above.sum()))[1] >= 0.9
    assert n_reached >= 90
    assert 0.8 < np.median(thresholds) < 0.87


def test_the_measured_precision_alone_is_too_good_to_be_true() -> None:
    """Of all confidences the lowest that reaches it is one that was lucky; the interval's lower end makes up for it."""

    def reached(sureness: float) -> float:
        true = [
            (1 + choose_threshold(*world(200, seed), rule(sureness=sureness)).threshold.yes) / 2 for seed in range(100)
        ]
        return float(np.mean(np.array(true) >= 0.9))

    assert reached(0.5) < 0.5
    assert reached(0.95) > 0.85


def test_below_the_band_a_no_is_right_often_enough() -> None:
    """From the known answer: below t a no is right in 1 - t / 2 of the items, so .04 is where .98 ends."""
    bands = [choose_threshold(*world(30_000, seed), rule()).threshold for seed in range(50)]
    unsure = np.array([band.unsure for band in bands])
    assert (1 - unsure / 2 >= 0.98).mean() > 0.85
    assert 0.005 < np.median(unsure) < 0.04


def test_where_every_no_is_right_nothing_is_unsure() -> None:
    confidence = np.repeat([0.1, 0.95], [500, 100]).astype(np.float32)
    y = np.repeat([0, 1], [500, 100]).astype(np.float32)
    chosen = choose_threshold(confidence, y, rule())
    assert chosen.threshold.yes == chosen.threshold.unsure
    assert 0.1 < chosen.threshold.yes <= np.float32(0.95)
    assert chosen.precision == 1
    assert chosen.n_above == 100


def test_too_few_labels_give_the_default_and_say_so() -> None:
    confidence = np.linspace(0, 1, 100).astype(np.float32)
    y = np.zeros(100, np.float32)
    y[-5:] = 1
    chosen = choose_threshold(confidence, y, rule())
    assert chosen.origin == "few_labels"
    assert (chosen.threshold.yes, chosen.threshold.unsure) == (0.5, 0.25)


def test_a_precision_that_no_confidence_reaches_means_never() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.random(400).astype(np.float32)
    chosen = choose_threshold(confidence, (rng.random(400) < 0.5).astype(np.float32), rule())
    assert chosen.origin == "unreached"
    assert chosen.threshold.yes == NEVER
    assert (chosen.n_above, chosen.precision) == (0, None)


def test_the_taxonomy_has_the_last_word() -> None:
    chosen = choose_threshold(*world(1000, 1), rule(), fixed=0.3)
    assert chosen.origin == "taxonomy"
    assert chosen.threshold.yes == 0.3
    assert chosen.threshold.unsure <= 0.3


def test_equal_confidences_count_together() -> None:
    """Ten of the eleven at .7 are right, and which came first does not matter."""
    confidence = np.array([0.9] * 30 + [0.7] * 11 + [0.1] * 60, np.float32)
    y = np.array([1] * 30 + [1] * 10 + [0] * 61, np.float32)
    chosen = choose_threshold(confidence, y, rule(sureness=0.5))
    assert 0.1 < chosen.threshold.yes <= np.float32(0.7)
    assert chosen.precision == pytest.approx(40 / 41)


def test_the_interval_of_wilson_is_as_published() -> None:
    """Newcombe (1998), table I: 15 of 148, the method without continuity correction."""
    low, high = wilson(15, 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)
    assert wilson_low(np.array([9.0]), np.array([10.0]), 0.5)[0] == pytest.approx(0.9)


def test_verdicts_come_from_thresholds_of_other_folds() -> None:
    """A tag that only one fold has can be given by nobody there: the others know too little of it."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(300, 1)).astype(np.float32)
    folds = np.arange(300) % 3
    y = ((logits[:, 0] > 0) & (folds == 0)).astype(np.float32)[:, None]
    told = cross_fitted(
        Evidence(logits, y, np.ones(y.shape, np.bool_), folds, ("t",), "sigmoid"), "temperature", rule(), {}
    )
    few = told.yes[folds == 0]
    assert (few == (told.confidence[folds == 0] >= 0.5)).all()


def test_an_interval_ends_where_its_share_is_just_believable() -> None:
    # Wilson's interval holds the shares p with |found - p| <= z sqrt(p (1 - p) / n).
    z = NormalDist().inv_cdf((1 + 0.9) / 2)
    for right, n in ((432, 500), (1, 10), (0, 20), (20, 20)):
        for end in wilson(right, n, 0.9):
            assert abs(right / n - end) == pytest.approx(z * math.sqrt(max(end * (1 - end), 0) / n), abs=1e-9)
