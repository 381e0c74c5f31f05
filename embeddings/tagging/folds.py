"""k-fold: each labelled item is judged by a head that has not learned from it.

Letters: N items, C tags, U units (items, or groups of items that stay together), F folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.heads import Head, HeadSpec
from embeddings.tagging.training import Mask, Rows, TrainingSet, fit
from recsys.errors import InputError
from recsys.manifest import EmbeddingSpace
from recsys.tagging_config import TagTrainingConfig

Floats = NDArray[np.float32]
OnFit = Callable[[], None]


def stratified_folds(y: Floats, known: Mask, n_folds: int, *, seed: int, groups: Sequence[str] | None = None) -> Rows:
    """int64 [N]: the fold of each item, so that every fold has its share of every tag.

    The rarest tag that is left is dealt out first, each unit to the fold that lacks it most (Sechidis, Tsoumakas and
    Vlahavas, "On the Stratification of Multi-label Data", 2011).

    Args:
        groups: [N], items of one group stay in one fold, as the scenes of one film must.

    Raises:
        InputError: there are fewer items, or groups, than folds.
    """
    _, unit = np.unique(np.arange(len(y)) if groups is None else np.asarray(groups), return_inverse=True)
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < n_folds:
        raise InputError(f"{n_units} labelled items or groups cannot make {n_folds} folds: label more, or set folds")
    yes = np.zeros((n_units, y.shape[1]))
    np.add.at(yes, unit, (y > 0) & known)
    sizes = np.bincount(unit).astype(np.float64)
    return _dealt(yes, sizes, n_folds, np.random.default_rng(seed))[unit]


@dataclass(frozen=True)
class OutOfFold:
    """What heads say of items that they have not learned from.

    Attributes:
        folds: int64 [N].
        logits: float32 [N, C].
        heads: fold → the head that was fitted on all others, without calibration.
    """

    folds: Rows
    logits: Floats
    heads: Mapping[int, Head]


def out_of_fold(
    data: TrainingSet,
    spaces: Mapping[str, EmbeddingSpace],
    tags: tuple[str, ...],
    config: TagTrainingConfig,
    folds: Rows,
    *,
    extra: Mapping[int, TrainingSet] | None = None,
    on_fit: OnFit | None = None,
) -> OutOfFold:
    """Each item's logits from a head that was fitted on the other folds.

    Args:
        folds: int64 [N].
        extra: fold → rows to learn from besides, when that fold is held out.
        on_fit: called after each fit.
    """
    logits = np.empty(data.y.shape, np.float32)
    heads: dict[int, Head] = {}
    for fold in np.unique(folds).tolist():
        held_out = np.flatnonzero(folds == fold)
        learned = data.take(np.flatnonzero(folds != fold))
        if extra is not None and fold in extra:
            learned = learned.with_more(extra[fold])
        heads[fold] = fitted_head(learned, spaces, tags, config, seed=config.seed + fold)
        logits[held_out] = heads[fold].logits(data.take(held_out).vectors)
        if on_fit is not None:
            on_fit()
    return OutOfFold(folds, logits, heads)


def fitted_head(
    data: TrainingSet,
    spaces: Mapping[str, EmbeddingSpace],
    tags: tuple[str, ...],
    config: TagTrainingConfig,
    *,
    seed: int,
    name: str = "",
) -> Head:
    """A head fitted on `data`, without calibration and thresholds."""
    spec = HeadSpec(
        name=name,
        model="trained on " + " + ".join(dict.fromkeys(spaces[each].encoder for each in data.vectors)),
        origin="trained",
        spaces={each: spaces[each] for each in data.vectors},
        labels=tags,
        tags=tags,
        labels_of={tag: (place,) for place, tag in enumerate(tags)},
        fusion=config.fusion,
        activation="softmax" if data.exclusive else "sigmoid",
        thresholds={},
    )
    return Head(spec, fit(data, config, seed=seed).weights)


def _dealt(yes: NDArray[np.float64], sizes: NDArray[np.float64], n_folds: int, rng: np.random.Generator) -> Rows:
    """int64 [U]. `yes` is float64 [U, C], `sizes` float64 [U]."""
    fold = np.full(len(sizes), -1)
    wanted = np.tile(yes.sum(axis=0) / n_folds, (n_folds, 1))
    room = np.full(n_folds, sizes.sum() / n_folds)
    left = np.ones(len(sizes), np.bool_)
    while left.any():
        remaining = yes[left].sum(axis=0)
        tag = int(np.where(remaining > 0, remaining, np.inf).argmin()) if remaining.any() else None
        of_tag = left if tag is None else left & (yes[:, tag] > 0)
        units = rng.permutation(np.flatnonzero(of_tag))
        for unit in units[np.argsort(-sizes[units], kind="stable")]:
            lacking = room if tag is None else wanted[:, tag]
            best = np.flatnonzero(lacking >= lacking.max() - 1e-9)
            best = best[room[best] >= room[best].max() - 1e-9]
            chosen = int(rng.choice(best))
            fold[unit], left[unit] = chosen, False
            wanted[chosen] -= yes[unit]
            room[chosen] -= sizes[unit]
    return fold
