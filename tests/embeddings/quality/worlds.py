"""Vectors whose copies, wrong pairs and shifts are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit(vectors: NDArray[np.float64]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def unrelated(n: int, dim: int = 24, seed: int = 0) -> Vectors:
    """float32 [n, dim], spread evenly over the sphere: nothing is a copy of anything."""
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


def moved(vectors: Vectors, by: float, seed: int = 1) -> Vectors:
    """The same, each a distance of about `by` away on the sphere."""
    noise = np.random.default_rng(seed).normal(size=vectors.shape) / np.sqrt(vectors.shape[1])
    return unit(vectors + by * noise)


def paired(n: int, *, dim: int = 24, noise: float, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Images and texts of `n` items, float32 [n, dim] each: a text is its image turned, and `noise`."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, dim))
    turn, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
    return unit(images), unit(images @ turn + noise * rng.normal(size=(n, dim)))
