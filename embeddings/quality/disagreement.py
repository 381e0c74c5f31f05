"""Items whose picture and words do not go together: a wrong picture, or a wrong text.

Where one model made both vectors, their cosine tells. Where two models did, a linear map is fitted from image vectors
to text vectors, and each item is judged by a map that has not seen it. How much that can tell is measured on wrong
pairs made on purpose; where it is next to nothing, nothing is told.

Letters: R items that have both, D image width, E text width, F folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
AnyVectors = NDArray[np.float16] | Vectors
Floats = NDArray[np.float64]
Method = Literal["aligned", "fitted", "none"]

FEWEST_ITEMS = 200
N_FOLDS = 5
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Tried, in units of the image vectors' mean variance times the number of items."""

LOWEST_SHARE = 0.01
MIN_POWER = 5.0
"""Wrong pairs must be this many times likelier than the catalogue's own to be among its lowest scores."""

_MIN_Z = 3.1  # p < .001
_OUTLIER_Z = -3.5
_CHUNK = 8192


@dataclass(frozen=True)
class Disagreement:
    """What was found out.

    Attributes:
        method: "none" where nothing can be told; then `why` says why not.
        scores: float32 [R], how well an item's picture goes with its own text.
        wrong: float32 [R], the same pictures with another item's text.
        z: float32 [R], robust z-score of `scores` (median and MAD).
        order: int64 [R], worst first.
        n_lowest: how many are the lowest `LOWEST_SHARE`.
        power: share of wrong pairs that score as low as those.
        own_wins: share of pictures that go better with their own text than with another's; .5 = chance.
        explained: share of the text vectors' variance that held-out predictions explain (fitted only).
    """

    method: Method
    why: str = ""
    scores: Vectors | None = None
    wrong: Vectors | None = None
    z: Vectors | None = None
    order: NDArray[np.int64] | None = None
    n_lowest: int = 0
    power: float = 0.0
    own_wins: float = 0.5
    explained: float | None = None

    @property
    def n_outliers(self) -> int:
        return 0 if self.z is None else int((self.z <= _OUTLIER_Z).sum())


def find_disagreement(images: AnyVectors, texts: AnyVectors, *, aligned: bool, seed: int = 0) -> Disagreement:
    """Score every pair of rows.

    Args:
        images: [R, D] float16 or float32, L2-normalised and finite.
        texts: [R, E], likewise; row r is the same item's.
        aligned: both come from one model trained on pairs (then D = E).
        seed: of the folds and of the wrong pairs.
    """
    n = len(images)
    if n < FEWEST_ITEMS:
        return Disagreement("none", f"only {n} items have a picture and a text; {FEWEST_ITEMS} are needed")
    folds = np.random.default_rng(seed).permutation(n) % N_FOLDS
    others = _others(folds, seed)
    if aligned:
        scores, wrong = _cosines(images, texts), _cosines(images, texts[others])
        return _judged("aligned", scores, wrong, None)
    predicted, explained = _predictions(images, texts, folds)
    centred = texts.astype(np.float32) - texts.astype(np.float32).mean(axis=0)
    scores, wrong = _cosines(predicted, centred), _cosines(predicted, centred[others])
    return _judged("fitted", scores, wrong, explained)


def _judged(method: Method, scores: Vectors, wrong: Vectors, explained: float | None) -> Disagreement:
    n = len(scores)
    n_lowest = max(1, int(LOWEST_SHARE * n))
    order = np.argsort(scores, kind="stable")
    power = float((wrong <= scores[order[n_lowest - 1]]).mean())
    own_wins = float((scores > wrong).mean() + (scores == wrong).mean() / 2)
    certainty = (own_wins - 0.5) * 2 * np.sqrt(n)  # the sign test's z
    if certainty < _MIN_Z or power < MIN_POWER * n_lowest / n:
        unlike = "the two encoders are not aligned, and a map between them" if method == "fitted" else "the encoder"
        why = (
            f"{unlike} does not tell right pairs from wrong ones well enough: a picture goes better with its own text "
            f"than with another's in {own_wins:.0%} of the cases, and {power:.1%} of wrong pairs score as low as the "
            f"lowest {n_lowest / n:.1%}"
        )
        return Disagreement("none", why, power=power, own_wins=own_wins, explained=explained)
    middle = float(np.median(scores))
    spread = 1.4826 * float(np.median(np.abs(scores - middle)))
    z = ((scores - middle) / max(spread, 1e-9)).astype(np.float32)
    return Disagreement(method, "", scores, wrong, z, order, n_lowest, power, own_wins, explained)


def _others(folds: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """For each row another row of its fold: the same map predicts both."""
    others = np.empty(len(folds), dtype=np.int64)
    rng = np.random.default_rng(seed + 1)
    for fold in range(N_FOLDS):
        rows = rng.permutation(np.flatnonzero(folds == fold))
        others[rows] = np.roll(rows, 1)
    return others


def _cosines(a: AnyVectors, b: AnyVectors) -> Vectors:
    found = np.empty(len(a), dtype=np.float32)
    for chunk in _chunks(len(a)):
        one, other = a[chunk].astype(np.float32), b[chunk].astype(np.float32)
        norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        found[chunk] = (one * other).sum(axis=1) / np.maximum(norms, 1e-12)
    return found


@dataclass(frozen=True)
class _Sums:
    """What ridge regression needs to know of a set of rows; sums add and subtract."""

    n: int
    images: Floats  # D
    texts: Floats  # E
    square: Floats  # D x D
    product: Floats  # D x E

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.n + other.n,
            self.images + other.images,
            self.texts + other.texts,
            self.square + other.square,
            self.product + other.product,
        )

    def map(self, ridge: float) -> tuple[Floats, Floats, Floats]:
        """Image mean [D], text mean [E] and weights [D, E]: text - mean = (image - mean) @ weights."""
        image_mean, text_mean = self.images / self.n, self.texts / self.n
        square = self.square - self.n * np.outer(image_mean, image_mean)
        product = self.product - self.n * np.outer(image_mean, text_mean)
        penalty = ridge * max(float(np.trace(square)) / len(square), 1e-12)
        weights = np.linalg.solve(square + penalty * np.eye(len(square)), product).astype(np.float64, copy=False)
        return image_mean, text_mean, weights


def _predictions(images: AnyVectors, texts: AnyVectors, folds: NDArray[np.int64]) -> tuple[Vectors, float]:
    """Each row's centred text as a map fitted on the other folds predicts it, float32 [R, E], and the share of the
    texts' variance that explains. The ridge is the one that explains most of the first fold."""
    sums = [_sums(images, texts, np.flatnonzero(folds == fold)) for fold in range(N_FOLDS)]
    without = [_added([each for at, each in enumerate(sums) if at != fold]) for fold in range(N_FOLDS)]
    first = np.flatnonzero(folds == 0)
    ridge = max(RIDGES, key=lambda each: _explained(images, texts, first, without[0], each))
    predicted = np.empty(texts.shape, dtype=np.float32)
    for fold in range(N_FOLDS):
        rows = np.flatnonzero(folds == fold)
        image_mean, _, weights = without[fold].map(ridge)
        for chunk in _chunks(len(rows)):
            predicted[rows[chunk]] = (images[rows[chunk]] - image_mean) @ weights
    total = _added(sums)
    left = every = 0.0
    for chunk in _chunks(len(texts)):
        centred = texts[chunk].astype(np.float64) - total.texts / total.n
        left += float(((centred - predicted[chunk]) ** 2).sum())
        every += float((centred**2).sum())
    return predicted, 1.0 - left / max(every, 1e-12)


def _explained(images: AnyVectors, texts: AnyVectors, rows: NDArray[np.int64], sums: _Sums, ridge: float) -> float:
    image_mean, text_mean, weights = sums.map(ridge)
    left = 0.0
    for chunk in _chunks(len(rows)):
        centred = texts[rows[chunk]].astype(np.float64) - text_mean
        left += float(((centred - (images[rows[chunk]] - image_mean) @ weights) ** 2).sum())
    return -left


def _sums(images: AnyVectors, texts: AnyVectors, rows: NDArray[np.int64]) -> _Sums:
    return _added(
        _Sums(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y)
        for chunk in _chunks(len(rows))
        for x, y in [(images[rows[chunk]].astype(np.float64), texts[rows[chunk]].astype(np.float64))]
    )


def _added(sums: list[_Sums] | Iterator[_Sums]) -> _Sums:
    total: _Sums | None = None
    for each in sums:
        total = each if total is None else total + each
    assert total is not None
    return total


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK))
