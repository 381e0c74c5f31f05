"""The function of a trained head in torch: what `heads.Head` evaluates in numpy, with its inputs standardised inside.

Inside, a modality's vectors are centred and brought to a mean squared length of 1, all by one factor: directions in
which a space varies more go on to say more, and a space of 1,280 numbers does not outvoice one of 384 beside it. (With
a variance of 1 a number instead, posters and plots together were worse than plots alone.) `folded` writes both into the
weights, and the head reads plain vectors.

Letters: N items, M modalities, D_m width of one, H hidden or L, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embeddings.tagging.heads import Vectors

Floats = NDArray[np.float32]
Inputs = Mapping[str, tuple[Tensor, Tensor]]
"""modality → (float32 [N, D_m] standardised, bool [N] present)."""

SMALLEST_SCALE = 1e-6


@dataclass(frozen=True)
class Scaling:
    """(x - mean) / scale: `mean` float32 [D], `scale` above 0."""

    mean: Floats
    scale: float

    @staticmethod
    def of(x: Floats, present: NDArray[np.bool_]) -> Scaling:
        """Of the vectors that are there; the identity where there are none."""
        there = x[present].astype(np.float64)
        if not len(there):
            return Scaling(np.zeros(x.shape[1], np.float32), 1.0)
        mean = there.mean(axis=0)
        scale = float(np.sqrt(np.mean(np.sum((there - mean) ** 2, axis=1))))
        return Scaling(mean.astype(np.float32), max(scale, SMALLEST_SCALE))


class HeadNetwork(nn.Module):
    """`Head.logits` with gradients. Parameters are made from `seed` alone."""

    def __init__(
        self,
        scalings: Mapping[str, Scaling],
        n_labels: int,
        *,
        fusion: Literal["concat", "gated"],
        hidden: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.scalings, self.fusion = dict(scalings), fusion
        random = torch.Generator().manual_seed(seed)
        width = hidden or n_labels
        self.project, self.bias, self.absent, self.gate, self.gate_bias = (nn.ParameterDict() for _ in range(5))
        for name, scaling in self.scalings.items():
            n_inputs = len(scaling.mean)
            # Zeros where there is no hidden layer: the loss is convex, and nothing random is left in the weights.
            spread = (2 / len(self.scalings)) ** 0.5 if hidden else 0.0
            self.project[name] = nn.Parameter(torch.randn(n_inputs, width, generator=random) * spread)
            if fusion == "gated":
                self.bias[name] = nn.Parameter(torch.zeros(width))
                self.gate[name] = nn.Parameter(torch.zeros(n_inputs))
                self.gate_bias[name] = nn.Parameter(torch.zeros(1))
            elif len(self.scalings) > 1:
                self.absent[name] = nn.Parameter(torch.zeros(width))
        if fusion == "concat":
            self.bias["all"] = nn.Parameter(torch.zeros(width))
        self.out: nn.Parameter | None = None
        if hidden:
            self.out = nn.Parameter(torch.randn(hidden, n_labels, generator=random) * hidden**-0.5)
            self.out_bias = nn.Parameter(torch.zeros(n_labels))

    def squared_weights(self) -> Tensor:
        """The sum of squares of what multiplies a vector, float32 []."""
        return torch.stack([(each**2).sum() for each in (*self.project.values(), *self.gate.values())]).sum()

    @property
    def label_bias(self) -> nn.Parameter | None:
        """The parameter [L] that stands for each label's share; None in gated fusion without a hidden layer."""
        return self.out_bias if self.out is not None else self.bias["all"] if self.fusion == "concat" else None

    def inputs(self, vectors: Vectors) -> dict[str, tuple[Tensor, Tensor]]:
        """Standardised, zeros where absent; of the modalities that the head reads."""
        found = {}
        for name, scaling in self.scalings.items():
            x, present = vectors[name]
            standard = (x - scaling.mean) / np.float32(scaling.scale)
            found[name] = (torch.from_numpy(np.where(present[:, None], standard, 0)), torch.from_numpy(present.copy()))
        return found

    def forward(self, inputs: Inputs) -> Tensor:
        """float32 [N, L]."""
        hidden = self._gated(inputs) if self.fusion == "gated" else self._side_by_side(inputs)
        return hidden if self.out is None else torch.relu(hidden) @ self.out + self.out_bias

    def folded(self) -> dict[str, Floats]:
        """The weights of `Head`, for vectors as they are."""
        weights: dict[str, Tensor] = {}
        shift = torch.zeros(())
        for name, scaling in self.scalings.items():
            mean = torch.from_numpy(scaling.mean / np.float32(scaling.scale))
            weights[f"project.{name}"] = self.project[name] / scaling.scale
            moved = mean @ self.project[name]
            if self.fusion == "gated":
                weights[f"bias.{name}"] = self.bias[name] - moved
                weights[f"gate.{name}"] = self.gate[name] / scaling.scale
                weights[f"gate_bias.{name}"] = self.gate_bias[name] - mean @ self.gate[name]
            else:
                shift = shift + moved
                if name in self.absent:
                    weights[f"absent.{name}"] = self.absent[name] + moved
        if self.fusion == "concat":
            weights["bias"] = self.bias["all"] - shift
        if self.out is not None:
            weights |= {"out": self.out, "out_bias": self.out_bias}
        return {name: each.detach().numpy().astype(np.float32) for name, each in weights.items()}

    def _side_by_side(self, inputs: Inputs) -> Tensor:
        total: Tensor = self.bias["all"]
        for name, (x, present) in inputs.items():
            total = total + x @ self.project[name]
            if name in self.absent:
                total = total + torch.where(present[:, None], 0.0, 1.0) * self.absent[name]
        return total

    def _gated(self, inputs: Inputs) -> Tensor:
        terms = torch.stack([x @ self.project[name] + self.bias[name] for name, (x, _) in inputs.items()])
        scores = [
            torch.where(present, x @ self.gate[name] + self.gate_bias[name], -torch.inf)
            for name, (x, present) in inputs.items()
        ]
        gates = torch.softmax(torch.stack(scores, dim=1), dim=1)
        return torch.einsum("nm,mnh->nh", gates, terms)
