"""A pool of items whose tag is known, to see how many labels a way of choosing them takes.

Items lie in dense clusters of near copies; the tag is on one side of a plane, a tenth of the items, some of it noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class LabellingWorld:
    """float32 [N, D] unit vectors, and bool [N], whether each item has the tag; the second half is for testing."""

    vectors: Floats
    has_tag: Mask

    @property
    def n_pool(self) -> int:
        return len(self.vectors) // 2

    @staticmethod
    def make(seed: int, *, n: int = 6000, dim: int = 24, share: float = 0.1) -> LabellingWorld:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(n // 5, dim))
        vectors = centres[rng.integers(len(centres), size=n)] + 0.15 * rng.normal(size=(n, dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        side = vectors @ rng.normal(size=dim)
        return LabellingWorld(vectors.astype(np.float32), side > np.quantile(side, 1 - share))

    def confidences(self, labelled: NDArray[np.int64]) -> Floats:
        """float32 [N] of a logistic regression on these items of the pool."""
        x = np.concatenate([self.vectors, np.ones((len(self.vectors), 1), np.float32)], axis=1).astype(np.float64)
        weights = np.zeros(x.shape[1])
        known, y = x[labelled], self.has_tag[labelled].astype(np.float64)
        ridge = np.eye(x.shape[1]) * 0.02
        for _ in range(25):  # Newton's method
            p = 1 / (1 + np.exp(-np.clip(known @ weights, -30, 30)))
            curvature = (known * (p * (1 - p))[:, None]).T @ known + ridge
            weights -= np.linalg.solve(curvature, known.T @ (p - y) + ridge @ weights)
        return (1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))).astype(np.float32)

    def f1(self, confidences: Floats) -> float:
        """Of the items for testing, at one half."""
        said, true = confidences[self.n_pool :] >= 0.5, self.has_tag[self.n_pool :]
        return float(2 * (said & true).sum() / max(said.sum() + true.sum(), 1))
