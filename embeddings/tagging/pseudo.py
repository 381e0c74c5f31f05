"""Pseudo-labels: unlabelled items of which a head is sure, learned from like labelled ones, where that is seen to help.

It helps where items of one tag lie together and the boundaries lie where few items are; else a head only learns its own
mistakes (Lee, "Pseudo-Label", 2013). So the same folds are judged with and without, and without noise's help.

Letters: N items, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.calibration import Method
from embeddings.tagging.figures import Judged, Measure, difference, estimate, figure_json
from embeddings.tagging.folds import OnFit, OutOfFold, out_of_fold
from embeddings.tagging.heads import Head
from embeddings.tagging.held_out import Evidence
from embeddings.tagging.training import TrainingSet
from recsys.config import Config
from recsys.manifest import EmbeddingSpace
from recsys.tagging_config import TagTrainingConfig

Floats = NDArray[np.float32]

_METHOD: Method = "temperature"
"""Of the confidences that decide what is learned from; one number, which few labels suffice for."""


class PseudoDecision(Config):
    """Whether pseudo-labels are used, and why.

    Attributes:
        kept: whether they are.
        reason: in words.
        measure: what they were judged by, on labelled items that were held out.
        without, with_them, gain: value, low and high, as `recsys.metrics.bootstrap.Estimate`.
        n_items: unlabelled items that the heads were sure of, the mean over folds.
    """

    kept: bool
    reason: str
    measure: Measure
    without: dict[str, float | None]
    with_them: dict[str, float | None]
    gain: dict[str, float | None]
    n_items: float


def judge_pseudo_labels(
    data: TrainingSet,
    unlabelled: TrainingSet,
    found: OutOfFold,
    spaces: Mapping[str, EmbeddingSpace],
    tags: tuple[str, ...],
    config: TagTrainingConfig,
    *,
    on_fit: OnFit | None = None,
) -> tuple[PseudoDecision, OutOfFold]:
    """Compare the held-out figure with and without, item by item; kept where it is better beyond noise.

    Args:
        data: the labelled items, `found` the heads and logits of their folds.
        unlabelled: the others; their `y` and `known` are not read.

    Returns:
        The decision, and what is out of fold from now on.
    """
    measure: Measure = "accuracy" if data.exclusive else "macro_ap"
    evidence = evidence_of(data, found, tags)
    extra: dict[int, TrainingSet] = {}
    for fold, head in found.heads.items():
        # Not even the calibration may know the fold that judges.
        calibration = evidence.take(found.folds != fold).calibrated_by(_METHOD)
        calibrated = Head(head.spec.model_copy(update={"calibration": calibration}), head.weights)
        extra[fold] = pseudo_labelled(calibrated, unlabelled, config.pseudo_confidence, n_labelled=len(data))
    n_items = float(np.mean([len(each) for each in extra.values()]))
    learned = found
    if n_items:
        known = {fold: each for fold, each in extra.items() if len(each)}
        learned = out_of_fold(data, spaces, tags, config, found.folds, extra=known, on_fit=on_fit)
    before, after = _judged(data, found), _judged(data, learned)
    gain = difference(after, before, measure, seed=config.seed)
    kept = bool(n_items) and gain.low is not None and gain.low > 0
    decision = PseudoDecision(
        kept=kept,
        reason=_reason(n_items, kept, config.pseudo_confidence),
        measure=measure,
        without=figure_json(estimate(before, measure, seed=config.seed)),
        with_them=figure_json(estimate(after, measure, seed=config.seed)),
        gain=figure_json(gain),
        n_items=n_items,
    )
    return decision, learned if kept else found


def pseudo_labelled(head: Head, unlabelled: TrainingSet, sure: float, *, n_labelled: int) -> TrainingSet:
    """The unlabelled items of which the head is sure, with what it says as labels; perhaps none.

    Exclusive tags: items whose surest tag is at least `sure`. Else the pairs that are yes or no at least so surely.
    Together they weigh no more than the labelled items.
    """
    confidence = head.confidences(unlabelled.vectors)
    yes = confidence >= sure
    if unlabelled.exclusive:
        yes &= confidence == confidence.max(axis=1, keepdims=True)
        known = np.broadcast_to(yes.any(axis=1, keepdims=True), yes.shape)
    else:
        known = yes | (confidence <= 1 - sure)
    rows = np.flatnonzero(known.any(axis=1))
    chosen = unlabelled.take(rows)
    weight = np.full(len(rows), min(1.0, n_labelled / max(len(rows), 1)), np.float32)
    guessed = np.ones(len(rows), np.bool_)
    return TrainingSet(chosen.vectors, yes[rows].astype(np.float32), known[rows], unlabelled.exclusive, weight, guessed)


def evidence_of(data: TrainingSet, found: OutOfFold, tags: tuple[str, ...]) -> Evidence:
    activation = next(iter(found.heads.values())).spec.activation
    return Evidence(found.logits, data.y, data.known, found.folds, tags, activation)


def _judged(data: TrainingSet, found: OutOfFold) -> Judged:
    """By its logits: neither measure asks for more than an order."""
    return Judged(found.logits, found.logits > 0, data.y, data.known, data.exclusive)


def _reason(n_items: float, kept: bool, sure: float) -> str:
    if not n_items:
        return f"no unlabelled item reaches a confidence of {sure}"
    return "held-out labels are met better beyond noise" if kept else "no gain beyond noise on held-out labels"
