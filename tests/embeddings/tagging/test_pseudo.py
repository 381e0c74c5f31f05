"""Pseudo-labels are learned from where held-out labels say that it helps, and nowhere else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.folds import OutOfFold, fitted_head, out_of_fold, stratified_folds
from embeddings.tagging.pseudo import PseudoDecision, judge_pseudo_labels, pseudo_labelled
from embeddings.tagging.training import TrainingSet, validation_rows
from recsys.tagging_config import TagTrainingConfig
from tests.embeddings.tagging.worlds import classes, everywhere, exclusive_set, one_hot, space, unit

Floats = NDArray[np.float32]
CONFIG = TagTrainingConfig(pseudo_confidence=0.8, max_epochs=30)


def judged(
    x: Floats, of: NDArray[np.int64], n_labelled: int, n_classes: int, config: TagTrainingConfig = CONFIG
) -> tuple[PseudoDecision, OutOfFold, OutOfFold]:
    """The decision, and what is out of fold before and after it."""
    tags = tuple(f"t{place}" for place in range(n_classes))
    data = exclusive_set({"image": everywhere(x[:n_labelled])}, one_hot(of[:n_labelled], n_classes))
    unlabelled = nothing_known(x[n_labelled:], n_classes)
    spaces = {"image": space("image", x.shape[1])}
    folds = stratified_folds(data.y, data.known, 5, seed=0)
    found = out_of_fold(data, spaces, tags, config, folds)
    return *judge_pseudo_labels(data, unlabelled, found, spaces, tags, config), found


def nothing_known(x: Floats, n_tags: int, *, exclusive: bool = True) -> TrainingSet:
    nothing = np.zeros((len(x), n_tags))
    return TrainingSet({"image": everywhere(x)}, nothing.astype(np.float32), nothing.astype(np.bool_), exclusive)


def test_where_tags_lie_in_clusters_they_help_and_are_kept() -> None:
    """Six clusters, twenty labels each in 200 dimensions: the unlabelled items show where the clusters are."""
    x, of = classes(1620, 6, 200, spread=4.0, seed=3)
    decision, learned, before = judged(x, of, 120, 6)
    assert decision.kept, decision
    assert decision.gain["low"] is not None
    assert decision.gain["low"] > 0
    assert decision.n_items > 500
    accuracy = [
        np.mean(
            [head.logits({"image": everywhere(x[120:])}).argmax(axis=1) == of[120:] for head in each.heads.values()]
        )
        for each in (before, learned)
    ]
    assert accuracy[1] > accuracy[0] + 0.02  # on 1,500 items whose labels nobody has seen


def test_where_the_boundary_lies_among_the_items_they_hurt_and_are_switched_off() -> None:
    """Two tags that overlap in one of 300 dimensions: what the head is sure of is often wrong."""
    rng = np.random.default_rng(1)
    of = rng.integers(0, 2, 1150)
    x = rng.normal(size=(1150, 300))
    x[:, 0] += np.where(of > 0, 2.0, -2.0)
    decision, learned, before = judged(unit(x), of, 150, 2)
    assert not decision.kept
    assert learned is before
    assert decision.without["value"] is not None
    assert decision.with_them["value"] is not None
    assert decision.with_them["value"] < decision.without["value"]
    assert "no gain" in decision.reason


def test_where_nothing_is_sure_nothing_is_learned_from() -> None:
    rng = np.random.default_rng(2)
    x = unit(rng.normal(size=(200, 10)))
    decision, learned, before = judged(
        x, rng.integers(0, 2, 200), 60, 2, CONFIG.model_copy(update={"pseudo_confidence": 1.0})
    )
    assert not decision.kept
    assert decision.n_items == 0
    assert learned is before


def test_only_sure_pairs_are_known_and_together_they_weigh_no_more_than_the_labels() -> None:
    x, of = classes(300, 3, 8, spread=1.0, seed=4)
    y = one_hot(of, 3)
    data = TrainingSet({"image": everywhere(x[:60])}, y[:60], np.ones((60, 3), np.bool_), exclusive=False)
    head = fitted_head(data, {"image": space("image", 8)}, ("a", "b", "c"), TagTrainingConfig(), seed=0)
    unlabelled = nothing_known(x[60:], 3, exclusive=False)
    guessed = pseudo_labelled(head, unlabelled, 0.9, n_labelled=60)
    confidence = head.confidences(guessed.vectors)
    assert ((confidence >= 0.9) == (guessed.known & (guessed.y > 0))).all()
    assert ((confidence <= 0.1) == (guessed.known & (guessed.y == 0))).all() or np.isclose(confidence, 0.1).any()
    assert guessed.known.any(axis=1).all()
    assert guessed.weight is not None
    assert guessed.weight.sum() <= 60.001


def test_what_a_head_said_never_decides_when_training_stops() -> None:
    x, of = classes(100, 2, 8, spread=1.0, seed=5)
    data = exclusive_set({"image": everywhere(x)}, one_hot(of, 2))
    guessed = TrainingSet(data.vectors, data.y, data.known, True, None, np.ones(100, np.bool_))
    chosen = validation_rows(data.with_more(guessed), np.random.default_rng(0))
    assert len(chosen) == 15
    assert chosen.max() < 100
