"""Confidences come to mean what they say, and how far they are from it is measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.tagging.calibration import (
    NO_CALIBRATION,
    fit_calibration,
    fit_curve,
    fit_logistic,
    fit_steps,
    fit_temperature,
    probabilities,
)
from embeddings.tagging.held_out import Evidence, choose_method, cross_fitted_confidences
from embeddings.tagging.reliability import reliability

Floats = NDArray[np.float32]


def drawn(n: int, n_tags: int, *, seed: int) -> tuple[Floats, Floats]:
    """Logits [n, C] that are right, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, size=(n, n_tags))
    y = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return logits.astype(np.float32), y.astype(np.float32)


def evidence(logits: Floats, y: Floats, *, n_folds: int = 5) -> Evidence:
    tags = tuple(f"t{place}" for place in range(y.shape[1]))
    known = np.ones(y.shape, np.bool_)
    return Evidence(logits, y, known, np.arange(len(y)) % n_folds, tags, "sigmoid")


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_the_temperature_that_was_put_in_is_found(factor: float) -> None:
    logits, y = drawn(4000, 3, seed=1)
    found = fit_temperature(logits * np.float32(factor), y, np.ones(y.shape, np.bool_), "sigmoid")
    assert found == pytest.approx(factor, rel=0.06)


def test_the_temperature_of_exclusive_tags_is_found_too() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1.5, size=(4000, 5)).astype(np.float32)
    ends = probabilities(logits, "softmax").astype(np.float64).cumsum(axis=1)
    of = (rng.random((4000, 1)) > ends[:, :4]).sum(axis=1)
    y = np.eye(5, dtype=np.float32)[of]
    assert fit_temperature(logits * 2, y, np.ones(y.shape, np.bool_), "softmax") == pytest.approx(2, rel=0.06)


def test_steps_are_the_nearest_rising_function() -> None:
    raw = np.array([0.1, 0.2, 0.3, 0.4, 0.5], np.float32)
    y = np.array([0, 1, 0, 1, 1], np.float32)
    curve = fit_steps(raw, y)
    # A half yes at .1 and a half no at .5: 0 + .5 of 1.5; then 1 and 0 are one step of 1/2; then 1; and 1 of 1.5.
    told = np.interp([0.1, 0.2, 0.3, 0.4, 0.5], curve.x, curve.y)
    np.testing.assert_allclose(told, [1 / 3, 1 / 2, 1 / 2, (1 + 1) / 2.5, (1 + 1) / 2.5], atol=1e-6)


def test_no_confidence_becomes_certain() -> None:
    raw = np.linspace(0, 1, 200).astype(np.float32)
    curve = fit_curve(raw, (raw > 0.5).astype(np.float32))
    assert 0 < min(curve.y) < 0.01
    assert 0.99 < max(curve.y) < 1


def test_few_labels_give_a_smooth_curve_that_never_falls() -> None:
    rng = np.random.default_rng(3)
    raw = rng.random(60).astype(np.float32)
    y = (rng.random(60) < raw * 0.3).astype(np.float32)
    curve = fit_curve(raw, y)
    assert curve == fit_logistic(raw, y)
    assert (np.diff(curve.y) >= 0).all()
    assert np.interp(raw, curve.x, curve.y).mean() == pytest.approx(y.mean(), abs=0.02)


def test_two_numbers_mend_a_shift_that_no_temperature_can() -> None:
    """What class weights do: each logit is too high by the same number."""
    logits, y = drawn(300, 1, seed=4)
    known = np.ones(y.shape, np.bool_)
    calibration = fit_calibration(logits + 2, y, known, ("t0",), activation="sigmoid", method="isotonic")
    fresh, fresh_y = drawn(4000, 1, seed=5)
    before = reliability(probabilities(fresh + 2, "sigmoid")[:, 0], fresh_y[:, 0])
    after = reliability(calibration.of_logits(fresh + 2, ("t0",), "sigmoid")[:, 0], fresh_y[:, 0])
    assert before.ece > 0.25
    assert after.ece < 0.06


def test_the_figure_after_is_of_labels_that_the_calibration_has_not_seen() -> None:
    """Labels that nothing can tell: fitted on themselves the steps look good, cross-fitted they do not."""
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(200, 1)).astype(np.float32)
    y = (rng.random((200, 1)) < 0.5).astype(np.float32)
    told = evidence(logits, y)
    on_itself = told.confidences(told.calibrated_by("isotonic"))
    held_out = cross_fitted_confidences(told, "isotonic")
    assert reliability(on_itself[:, 0], y[:, 0]).log_loss < np.log(2)
    assert reliability(held_out[:, 0], y[:, 0]).log_loss > np.log(2)


def test_auto_takes_what_is_better_on_held_out_labels() -> None:
    logits, y = drawn(1500, 2, seed=7)
    assert choose_method(evidence(logits * 3, y), "auto")[0] == "temperature"
    assert choose_method(evidence(logits + 2, y), "auto")[0] == "isotonic"
    assert choose_method(evidence(logits, y), "none")[0] == "none"


def test_without_calibration_confidences_are_the_raw_ones() -> None:
    logits, _ = drawn(10, 2, seed=8)
    np.testing.assert_array_equal(
        NO_CALIBRATION.of_logits(logits, ("a", "b"), "sigmoid"), probabilities(logits, "sigmoid")
    )


def test_calibration_error_is_the_mean_distance_over_the_bins() -> None:
    confidence = np.array([0.1, 0.1, 0.9, 0.9], np.float32)
    y = np.array([0, 1, 1, 1], np.float32)
    found = reliability(confidence, y)
    assert found.ece == pytest.approx(2 / 4 * abs(0.1 - 1 / 2) + 2 / 4 * abs(0.9 - 2 / 2))
    assert found.brier == pytest.approx((0.1**2 + 0.9**2 + 2 * 0.1**2) / 4)
    assert [(each.n, each.share_yes) for each in found.bins] == [(2, 0.5), (2, 1.0)]
    assert found.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.1) + 2 * np.log(0.9)) / 4, rel=1e-5)


def test_bins_of_equal_mass_see_what_happens_where_most_confidences_are() -> None:
    """All within one bin of equal width, half too low and half too high."""
    confidence = np.repeat([0.01, 0.05], 150).astype(np.float32)
    y = np.zeros(300, np.float32)
    y[:9] = 1  # .06 of the lower half, 0 of the upper
    found = reliability(confidence, y)
    assert found.ece == pytest.approx(abs(0.03 - 9 / 300), abs=1e-6)
    assert found.ece_equal_mass == pytest.approx((0.05 + 0.05) / 2, abs=0.01)
