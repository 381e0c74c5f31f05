"""Compact content vectors: what a slate is compared by, 64 bytes an item in place of several kilobytes.

The content vectors of all modalities side by side are as wide as their encoders together; gathering 200 of them costs
more than all the rest of choosing a slate. A release therefore carries their projection on the directions in which
its items differ most (an uncentred PCA), rescaled to unit length and rounded to int8, and the projection itself for
items that come later.

Letters: N items, W width of all modalities side by side, K width of a compact vector, S sampled items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import Modality

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

WIDTH = 64
UNIT = 127  # the int8 that stands for 1
MAX_SAMPLE = 4096
CHUNK = 4096
SEED = 20_260
OVERSAMPLING = 16
ITERATIONS = 6
GRID = 2.0**-16
LEAST_LENGTH = 1e-6  # what the projection leaves of an item without content, or of one unlike all others


@dataclass(frozen=True, slots=True)
class Diversity:
    """Compact vectors and how they are made.

    Attributes:
        vectors: int8 [N, K]; divided by `UNIT` a row has length 1 (within 3 %), or is all 0: like nothing.
        projection: float32 [W, K].
    """

    vectors: NDArray[np.int8]
    projection: Floats

    def of(self, content: Floats) -> NDArray[np.int8]:
        """int8 [M, K] of more items, from `side_by_side` float32 [M, W]."""
        return compact(content, self.projection)


def side_by_side(parts: Sequence[tuple[Floats, Mask]], n_items: int) -> tuple[Floats, Mask]:
    """Content vectors (float32 [n, D_m], bool [n] present) of each modality, as float32 [n, W], bool [n].

    Each row with content has length 1, so that the inner product of two items with the same modalities is the mean of
    their cosines; a modality that neither has does not count, and one that only one has counts as unlike.
    """
    n_present = np.zeros(n_items, dtype=np.float32)
    content = np.empty((n_items, sum(vectors.shape[1] for vectors, _ in parts)), dtype=np.float32)
    first = 0
    for vectors, here in parts:
        content[:, first : first + vectors.shape[1]] = np.where(here[:, None], vectors, np.float32(0))
        n_present += here
        first += vectors.shape[1]
    content /= np.sqrt(np.maximum(n_present, 1))[:, None]
    return content, n_present > 0


def fit_projection(content: Floats, width: int = WIDTH) -> Floats:
    """The `width` leading right singular vectors of content float32 [S, W]: float32 [W, width], columns orthonormal.

    By subspace iteration from a seeded start (Halko, Martinsson, Tropp, "Finding structure with randomness", 2011,
    algorithm 4.4) in float64, with signs fixed and rounded to a grid: the same content gives the same bytes, however
    many threads multiply. Content that is no wider than `width` is kept as it is.
    """
    wide = content.shape[1]
    if wide <= width:
        return np.eye(wide, width, dtype=np.float32)
    rows = content.astype(np.float64)
    start = np.random.default_rng(SEED).standard_normal((wide, min(width + OVERSAMPLING, wide)))
    basis = np.linalg.qr(start)[0]
    for _ in range(ITERATIONS):
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    seen = rows @ basis
    _, turns = np.linalg.eigh(seen.T @ seen)
    directions = basis @ turns[:, ::-1][:, :width]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(width)]
    projection: Floats = (np.rint(directions * np.sign(largest) / GRID) * GRID).astype(np.float32)
    return projection


def compact(content: Floats, projection: Floats) -> NDArray[np.int8]:
    """int8 [n, K] of `side_by_side` float32 [n, W]: see `Diversity.vectors`."""
    # In float64, or the order of a sum would decide on which side of a rounding edge a value falls.
    projected = content.astype(np.float64) @ projection.astype(np.float64)
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    unit = np.where(lengths > LEAST_LENGTH, projected / np.maximum(lengths, LEAST_LENGTH), 0.0)
    vectors: NDArray[np.int8] = np.rint(unit * UNIT).astype(np.int8)
    return vectors


def diversity_of(modalities: Sequence[Modality], n_items: int, width: int = WIDTH) -> Diversity:
    """Compact vectors of a whole catalogue, fitted on a sample of it; streams, one chunk of rows at a time."""
    rng = np.random.default_rng(SEED)
    sample = np.sort(rng.choice(n_items, min(n_items, MAX_SAMPLE), replace=False)) if n_items else np.arange(0)
    projection = fit_projection(_content(modalities, sample), width)
    vectors = np.empty((n_items, projection.shape[1]), dtype=np.int8)
    for start in range(0, n_items, CHUNK):
        rows = np.arange(start, min(start + CHUNK, n_items))
        vectors[rows] = compact(_content(modalities, rows), projection)
    return Diversity(vectors, projection)


def _content(modalities: Sequence[Modality], rows: NDArray[np.int64]) -> Floats:
    """float32 [n, W]. Rounded to float16 as releases keep them, so that it does not matter when this is computed."""
    parts = [(each.vectors[rows].astype(np.float16).astype(np.float32), each.present[rows]) for each in modalities]
    return side_by_side(parts, len(rows))[0]
