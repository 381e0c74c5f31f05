"""From a head's raw probabilities to ones that mean what they say.

Letters: N items, C tags, K knots.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]
Activation = Literal["softmax", "sigmoid"]
Method = Literal["none", "temperature", "isotonic"]

FEWEST_FOR_STEPS = 30
"""Yes's and no's that a tag must have for a curve of free steps; with fewer it is a logistic one of two numbers."""

END_WEIGHT = 0.5
_TEMPERATURE_SPREAD = 0.5
_COLDEST, _HOTTEST = 0.05, 20.0
_CURVE_KNOTS = np.linspace(-12, 12, 65)
_SLOPE_SPREAD, _SHIFT_SPREAD = 0.5, 5.0


class Isotonic(Config):
    """A rising piecewise linear function through (x, y), constant outside: one tag's raw confidence → probability."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class Calibration(Config):
    """How logits become calibrated confidences.

    Attributes:
        temperature: logits are divided by it (Guo et al., "On Calibration of Modern Neural Networks", 2017).
        isotonic: by tag, over what the temperature gives; tags that are not in it keep that (Zadrozny and Elkan, 2002).
    """

    method: Method = "none"
    temperature: float = 1.0
    isotonic: dict[str, Isotonic] = Field(default_factory=dict)

    def of_tags(self, raw: Floats, tags: tuple[str, ...]) -> Floats:
        """float32 [N, C]: the second step."""
        out = raw.copy()
        for column, tag in enumerate(tags):
            curve = self.isotonic.get(tag)
            if curve is not None:
                out[:, column] = np.interp(raw[:, column], curve.x, curve.y)
        return out

    def of_logits(self, logits: Floats, tags: tuple[str, ...], activation: Activation) -> Floats:
        """float32 [N, C]: both steps, for a head whose labels are its tags."""
        return self.of_tags(probabilities(logits / np.float32(self.temperature), activation), tags)


NO_CALIBRATION = Calibration()


def probabilities(logits: Floats, activation: Activation) -> Floats:
    """float32 [N, C]."""
    x = logits.astype(np.float64)
    if activation == "sigmoid":
        return _sigmoid(x).astype(np.float32)
    raised = np.exp(x - x.max(axis=1, keepdims=True))
    out: Floats = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return out


def fit_calibration(
    logits: Floats, y: Floats, known: Mask, tags: tuple[str, ...], *, activation: Activation, method: Method
) -> Calibration:
    """What brings these logits nearest to the labels; they must come from heads that did not learn from them.

    Args:
        logits, y, known: [N, C].
        method: `isotonic` fits a temperature first, and then a curve a tag.
    """
    if method == "none" or not known.any():
        return NO_CALIBRATION
    temperature = fit_temperature(logits, y, known, activation)
    if method == "temperature":
        return Calibration(method=method, temperature=temperature)
    raw = probabilities(logits / np.float32(temperature), activation)
    curves = {tag: fit_curve(raw[known[:, at], at], y[known[:, at], at]) for at, tag in enumerate(tags)}
    return Calibration(method=method, temperature=temperature, isotonic=curves)


def fit_temperature(logits: Floats, y: Floats, known: Mask, activation: Activation) -> float:
    """The divisor with the highest posterior: the labels' likelihood, and a Gaussian around 0 for its logarithm.

    Without that, a few labels that are told apart without a fault would make every confidence 0 or 1.
    """
    from scipy.optimize import minimize_scalar

    x = logits.astype(np.float64)
    prior = 1 / (2 * _TEMPERATURE_SPREAD**2 * max(int(known.sum()), 1))
    said = (known & (y > 0)).any(axis=1)
    if activation == "softmax" and not said.any():
        return 1.0

    def lost(log_temperature: float) -> float:
        scaled = x / np.exp(log_temperature)
        if activation == "sigmoid":
            return float(np.mean((np.logaddexp(0, scaled) - y * scaled)[known])) + prior * log_temperature**2
        top = scaled[said].max(axis=1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(scaled[said] - top).sum(axis=1))
        right = scaled[said, np.where(known & (y > 0), 1, 0)[said].argmax(axis=1)]
        return float(np.mean(total - right)) + prior * log_temperature**2

    found = minimize_scalar(lost, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def fit_curve(raw: Floats, y: Floats) -> Isotonic:
    """One tag's curve, from raw confidences [N] and labels [N]."""
    n_yes = int((y > 0).sum())
    if min(n_yes, len(y) - n_yes) >= FEWEST_FOR_STEPS:
        return fit_steps(raw, y)
    return fit_logistic(raw, y)


def fit_steps(raw: Floats, y: Floats) -> Isotonic:
    """The rising function nearest to the labels: pool adjacent violators.

    Half a yes at the lower end and half a no at the upper one keep it from 0 and 1, which no sample can tell.
    """
    from scipy.optimize import isotonic_regression

    x = np.concatenate([raw, [raw.min(), raw.max()]]).astype(np.float64)
    told = np.concatenate([y, [1, 0]]).astype(np.float64)
    weight = np.concatenate([np.ones(len(raw)), [END_WEIGHT] * 2])
    places, at = np.unique(x, return_inverse=True)
    total = np.bincount(at, weight)
    risen = isotonic_regression(np.bincount(at, weight * told) / total, weights=total).x
    turns = np.flatnonzero(np.diff(risen) > 0)
    kept = np.unique(np.concatenate([[0], turns, turns + 1, [len(places) - 1]]))
    return Isotonic(x=tuple(places[kept].tolist()), y=tuple(risen[kept].tolist()))


def fit_logistic(raw: Floats, y: Floats) -> Isotonic:
    """sigmoid(a logit(raw) + b) as a piecewise linear function (Platt, "Probabilistic Outputs for SVMs", 1999).

    Gaussian priors around a = 1 and b = 0 stand for the labels that are not there; a is at least 0.
    """
    x = _logit(raw.astype(np.float64))
    slope, shift = 1.0, 0.0
    for _ in range(100):
        p = _sigmoid(slope * x + shift)
        off, curved = p - y, np.maximum(p * (1 - p), 1e-9)
        gradient = np.array([off @ x + (slope - 1) / _SLOPE_SPREAD**2, off.sum() + shift / _SHIFT_SPREAD**2])
        cross = curved @ x
        second = np.array([[curved @ x**2 + 1 / _SLOPE_SPREAD**2, cross], [cross, curved.sum() + 1 / _SHIFT_SPREAD**2]])
        step = np.clip(np.linalg.solve(second, gradient), -1, 1)
        slope, shift = max(slope - step[0], 0.0), shift - step[1]
        if np.abs(step).max() < 1e-8:
            break
    knots = _sigmoid(_CURVE_KNOTS)
    return Isotonic(x=tuple(knots.tolist()), y=tuple(_sigmoid(slope * _CURVE_KNOTS + shift).tolist()))


def _sigmoid(x: Doubles) -> Doubles:
    out: Doubles = np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))
    return out


def _logit(p: Doubles) -> Doubles:
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    out: Doubles = np.log(inside) - np.log1p(-inside)
    return out
