"""Calibration and thresholds judged on labels that they were not chosen on, and then chosen on all of them.

Letters: N items, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.calibration import Activation, Calibration, Method, fit_calibration
from embeddings.tagging.reliability import reliability
from embeddings.tagging.thresholds import Chosen, ThresholdRule, choose_threshold

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

_MEASURED: tuple[Method, ...] = ("temperature", "isotonic")


@dataclass(frozen=True)
class Evidence:
    """Labelled items, and the logits of heads that did not learn from them.

    Attributes:
        logits, y: float32 [N, C]; known: bool [N, C].
        folds: int64 [N].
        tags: `C` ids.
    """

    logits: Floats
    y: Floats
    known: Mask
    folds: Rows
    tags: tuple[str, ...]
    activation: Activation

    def take(self, rows: Mask) -> Evidence:
        each = (self.logits[rows], self.y[rows], self.known[rows], self.folds[rows])
        return Evidence(*each, self.tags, self.activation)

    def confidences(self, calibration: Calibration) -> Floats:
        """float32 [N, C]."""
        return calibration.of_logits(self.logits, self.tags, self.activation)

    def calibrated_by(self, method: Method) -> Calibration:
        return fit_calibration(self.logits, self.y, self.known, self.tags, activation=self.activation, method=method)


@dataclass(frozen=True)
class CrossFitted:
    """What calibrations and thresholds of the other folds say of each item: float32 and bool [N, C]."""

    confidence: Floats
    yes: Mask
    unsure: Mask


def choose_method(
    evidence: Evidence, wanted: Literal["auto", "temperature", "isotonic", "none"]
) -> tuple[Method, dict[str, float]]:
    """The method, and for `auto` the held-out log loss of each: the lower one is taken."""
    if wanted != "auto":
        return wanted, {}
    losses: dict[str, float] = {}
    for method in _MEASURED:
        confidence = cross_fitted_confidences(evidence, method)
        losses[method] = reliability(confidence[evidence.known], evidence.y[evidence.known]).log_loss
    return ("isotonic" if losses["isotonic"] < losses["temperature"] else "temperature"), losses


def cross_fitted_confidences(evidence: Evidence, method: Method) -> Floats:
    """float32 [N, C]: each item's by the calibration of the other folds."""
    out = np.empty(evidence.logits.shape, np.float32)
    for fold in np.unique(evidence.folds):
        here = evidence.folds == fold
        out[here] = evidence.take(here).confidences(evidence.take(~here).calibrated_by(method))
    return out


def choose_thresholds(
    evidence: Evidence, calibration: Calibration, rule: ThresholdRule, fixed: Mapping[str, float]
) -> dict[str, Chosen]:
    """tag → its threshold, on all of the evidence; `fixed` are the taxonomy's."""
    confidence = evidence.confidences(calibration)
    chosen = {}
    for at, tag in enumerate(evidence.tags):
        rows = evidence.known[:, at]
        chosen[tag] = choose_threshold(confidence[rows, at], evidence.y[rows, at], rule, fixed=fixed.get(tag))
    return chosen


def cross_fitted(evidence: Evidence, method: Method, rule: ThresholdRule, fixed: Mapping[str, float]) -> CrossFitted:
    """Each item's confidences and verdicts by calibration and thresholds of the other folds."""
    confidence = np.empty(evidence.logits.shape, np.float32)
    yes, unsure = np.zeros(confidence.shape, np.bool_), np.zeros(confidence.shape, np.bool_)
    for fold in np.unique(evidence.folds):
        here = evidence.folds == fold
        others = evidence.take(~here)
        calibration = others.calibrated_by(method)
        chosen = choose_thresholds(others, calibration, rule, fixed)
        confidence[here] = evidence.take(here).confidences(calibration)
        yes_from = np.array([chosen[tag].threshold.yes for tag in evidence.tags], np.float32)
        unsure_from = np.array([chosen[tag].threshold.unsure for tag in evidence.tags], np.float32)
        yes[here] = confidence[here] >= yes_from
        unsure[here] = (confidence[here] >= unsure_from) & ~yes[here]
    return CrossFitted(confidence, yes, unsure)
