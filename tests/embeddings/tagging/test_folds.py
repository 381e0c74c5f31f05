"""Folds hold their share of every tag, and nobody is judged by a head that has learned from them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.tagging.folds import out_of_fold, stratified_folds
from embeddings.tagging.training import TrainingSet
from recsys.errors import InputError
from recsys.tagging_config import TagTrainingConfig
from tests.embeddings.tagging.worlds import everywhere, one_hot, space, unit


def test_every_fold_has_its_share_of_every_tag() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random((500, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]).astype(np.float32)
    folds = stratified_folds(y, np.ones(y.shape, np.bool_), 5, seed=0)
    shares = np.stack([y[folds == fold].sum(axis=0) for fold in range(5)])
    assert (np.abs(shares - y.sum(axis=0) / 5) <= 1.5).all()
    assert np.bincount(folds).min() >= 95


def test_a_group_stays_in_one_fold() -> None:
    rng = np.random.default_rng(2)
    groups = [f"film {number}" for number in rng.integers(0, 40, 300)]
    y = (rng.random((300, 3)) < 0.3).astype(np.float32)
    folds = stratified_folds(y, np.ones(y.shape, np.bool_), 4, seed=0, groups=groups)
    for film in set(groups):
        assert len({int(fold) for fold, group in zip(folds, groups, strict=True) if group == film}) == 1
    assert np.bincount(folds).min() > 50


def test_the_same_seed_deals_the_same_folds() -> None:
    y = (np.random.default_rng(3).random((100, 3)) < 0.3).astype(np.float32)
    known = np.ones(y.shape, np.bool_)
    first, again, other = (stratified_folds(y, known, 5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_fewer_items_than_folds_are_refused() -> None:
    with pytest.raises(InputError, match="cannot make 5 folds"):
        stratified_folds(np.ones((4, 1), np.float32), np.ones((4, 1), np.bool_), 5, seed=0)


def test_no_head_has_learned_from_the_fold_that_it_judges() -> None:
    """Other labels in one fold: the logits there stay what they were, bit by bit, and change everywhere else."""
    rng = np.random.default_rng(4)
    x = unit(rng.normal(size=(60, 8)))
    of, folds = rng.integers(0, 2, 60), np.arange(60) % 3

    def logits(labels: NDArray[np.int64]) -> NDArray[np.float32]:
        known = np.ones((60, 2), np.bool_)
        data = TrainingSet({"image": everywhere(x)}, one_hot(labels, 2), known, exclusive=True)
        config = TagTrainingConfig(max_epochs=5)
        found = out_of_fold(data, {"image": space("image", 8)}, ("a", "b"), config, folds)
        assert sorted(found.heads) == [0, 1, 2]
        return found.logits

    before, after = logits(of), logits(np.where(folds == 1, 1 - of, of))
    np.testing.assert_array_equal(before[folds == 1], after[folds == 1])
    assert (before[folds != 1] != after[folds != 1]).all()
