"""Multinomial logistic regression by L-BFGS: the plainest head that can be trained on frozen vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]

PENALTY = 1e-3
MAX_STEPS = 200


@dataclass(frozen=True)
class SoftmaxRegression:
    """logits = x @ weights + bias: float32 [D, C], [C]."""

    weights: Floats
    bias: Floats

    def logits(self, vectors: Floats) -> Floats:
        """float32 [N, C]."""
        return vectors @ self.weights + self.bias

    @staticmethod
    def fitted(vectors: Floats, classes: NDArray[np.int64], n_classes: int) -> SoftmaxRegression:
        """The minimum of the mean cross-entropy plus `PENALTY` / 2 times the squared weights; nothing is drawn by lot.

        Args:
            vectors: float32 [N, D].
            classes: int64 [N].
        """
        x, y = torch.from_numpy(vectors), torch.from_numpy(classes)
        weights = torch.zeros(vectors.shape[1], n_classes, requires_grad=True)
        bias = torch.zeros(n_classes, requires_grad=True)
        search = torch.optim.LBFGS([weights, bias], max_iter=MAX_STEPS, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            search.zero_grad()
            found = torch.nn.functional.cross_entropy(x @ weights + bias, y) + PENALTY / 2 * weights.square().sum()
            found.backward()
            return found

        search.step(loss)
        return SoftmaxRegression(weights.detach().numpy(), bias.detach().numpy())
