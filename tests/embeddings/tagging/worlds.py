"""Small worlds with a known answer, for heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.training import TrainingSet
from recsys.manifest import EmbeddingSpace

Floats = NDArray[np.float32]


def space(modality: str, dim: int) -> EmbeddingSpace:
    return EmbeddingSpace(
        encoder=f"fake-{modality}", modality=modality, weights_sha256="0" * 64, preprocessing="{}", dim=dim
    )


def unit(x: NDArray[np.float64]) -> Floats:
    """Rows of length 1, as encoders give them."""
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def everywhere(x: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    return x, np.ones(len(x), np.bool_)


def classes(n: int, n_classes: int, dim: int, *, spread: float, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Unit vectors [n, dim] around the centres of their classes [n]."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(1_000).normal(size=(n_classes, dim))
    of = rng.integers(0, n_classes, n)
    return unit(centres[of] + spread * rng.normal(size=(n, dim))), of


def one_hot(of: NDArray[np.int64], n_classes: int) -> Floats:
    return np.eye(n_classes, dtype=np.float32)[of]


def exclusive_set(vectors: dict[str, tuple[Floats, NDArray[np.bool_]]], y: Floats) -> TrainingSet:
    return TrainingSet(vectors, y, np.ones(y.shape, np.bool_), exclusive=True)


def multi_label(n: int, dim: int, n_tags: int, *, seed: int) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """Unit vectors [n, dim], tags [n, C] drawn by known probabilities [n, C], rarer from tag to tag."""
    rng = np.random.default_rng(seed)
    x = unit(rng.normal(size=(n, dim)))
    weights = np.random.default_rng(2_000).normal(size=(dim, n_tags)) * 4
    p = 1 / (1 + np.exp(-(x @ weights - np.linspace(0.0, 2.5, n_tags))))
    return x, (rng.random(p.shape) < p).astype(np.float32), p
