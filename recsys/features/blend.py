"""One value from three signals: the ranking formula, and how its weights are chosen.

    value = similarity_weight * similarity
          + transition_weight * log(1 + transition / transition_unit)
          + popularity_weight * log(1 + interactions of the item)

similarity is the query vector's product with the item vector (a logit), transition is `Neighbours.score`. Both terms
live on the scale of logits, and each candidate's value depends on that candidate alone, so values do not move when
the candidate set does. Training and serving call the same `Blend.value`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config
from recsys.dataset import Rows
from recsys.ports import RankFeatures

Values = NDArray[np.float32]


class Blend(Config):
    """Weights of the formula; the larger the value the better.

    Attributes:
        transition_unit: the transition score from which on its gain slows down; a typical score of a neighbour.
    """

    similarity_weight: float = 1.0
    transition_weight: float = 1.5
    popularity_weight: float = 0.02
    transition_unit: float = 0.01

    def value(self, features: RankFeatures) -> Values:
        """float32 [C], or float32 [B, C] where the features are; see the formula."""
        parts = self.parts(features)
        return np.asarray(parts["similarity"] + parts["transition"] + parts["popularity"], dtype=np.float32)

    def parts(self, features: RankFeatures) -> dict[str, Values]:
        """The three terms of the formula, which add up to the value: what an explanation shows."""
        transition = np.log1p(features.transition / np.float32(self.transition_unit))
        return {
            "similarity": np.float32(self.similarity_weight) * features.similarity,
            "transition": np.float32(self.transition_weight) * transition,
            "popularity": np.float32(self.popularity_weight) * features.log_popularity,
        }


class BlendGrid(Config):
    """The weights that `fit_blend` tries, beside a similarity weight of 1.

    The smallest popularity weight is not 0, so that where nothing else speaks popular items come first.
    """

    transition_weights: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    popularity_weights: tuple[float, ...] = (0.02, 0.1)
    transition_unit: float = 0.01


@dataclass(frozen=True)
class BlendBatch:
    """Validation targets with the features of the whole catalogue.

    Attributes:
        features: similarity and transition float32 [B, N], log_popularity float32 [N].
        targets: int64 [B], the item row to find.
        excluded: places 0..B-1 int64 [X] and item rows int64 [X] of what the users already have.
    """

    features: RankFeatures
    targets: Rows
    excluded: tuple[Rows, Rows]


@dataclass(frozen=True)
class FittedBlend:
    """The best weights, and what each point of the grid reached: (transition, popularity) → NDCG@10."""

    blend: Blend
    ndcg_at_10: float
    tried: dict[tuple[float, float], float]


def fit_blend(batches: Iterable[BlendBatch], grid: BlendGrid | None = None) -> FittedBlend:
    """Choose the weights with the best NDCG@10 on validation targets, ranked against the whole catalogue.

    Deterministic: all points of the grid are tried, and of equally good ones the first (the smallest weights) wins.
    Fit transitions and towers without the validation targets, or their weights come out too large.

    Raises:
        ValueError: there are no targets.
    """
    grid = grid or BlendGrid()
    points = list(product(grid.transition_weights, grid.popularity_weights))
    gains = np.zeros(len(points))
    n_targets = 0
    for batch in batches:
        n_targets += len(batch.targets)
        for at, (transition, popularity) in enumerate(points):
            gains[at] += _gain(_blend(transition, popularity, grid), batch)
    if not n_targets:
        raise ValueError("a blend needs at least one validation target")
    best = int(np.argmax(gains))
    tried = {point: float(gain / n_targets) for point, gain in zip(points, gains, strict=True)}
    return FittedBlend(_blend(*points[best], grid), tried[points[best]], tried)


def _blend(transition: float, popularity: float, grid: BlendGrid) -> Blend:
    return Blend(transition_weight=transition, popularity_weight=popularity, transition_unit=grid.transition_unit)


def _gain(blend: Blend, batch: BlendBatch) -> float:
    """Sum of `1 / log2(1 + rank)` over the targets among the first ten; ties count against the target."""
    values = blend.value(batch.features)
    of_target = values[np.arange(len(values)), batch.targets]
    values[batch.excluded] = -np.inf
    values[np.arange(len(values)), batch.targets] = of_target
    ranks = np.count_nonzero(values >= of_target[:, None], axis=1)
    return float(np.where(ranks <= 10, 1 / np.log2(1.0 + ranks), 0.0).sum())
