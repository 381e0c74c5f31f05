"""What a learned ranker reads of each candidate, and how its probabilities become one value.

Training and serving call the same two functions, so a column means the same on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ArtifactError
from recsys.ports import RankFeatures

Floats = NDArray[np.float32]

TAG_AFFINITY = "tag_affinity"
COLUMNS: Mapping[str, Callable[[RankFeatures], Floats | None]] = {
    "similarity": lambda features: features.similarity,
    "transition": lambda features: features.transition,
    "log_popularity": lambda features: features.log_popularity,
    "is_new": lambda features: features.is_new,
    TAG_AFFINITY: lambda features: features.tag_affinity,
}
"""name → float32 [C]; None stands for 0 everywhere. No column says how old anything is: a model would learn the
times of its training."""


def rank_feature_matrix(features: RankFeatures, names: Sequence[str]) -> Floats:
    """float32 [C, F]: the named columns, in that order.

    Raises:
        ArtifactError: there is no column of that name (see `require_known_features`).
    """
    out = np.zeros((len(features.similarity), len(names)), dtype=np.float32)
    for at, name in enumerate(names):
        if name not in COLUMNS:
            require_known_features(names)
        column = COLUMNS[name](features)
        if column is not None:
            out[:, at] = column
    return out


def require_known_features(names: Sequence[str]) -> None:
    """Raises ArtifactError where a ranker reads a column that this version does not compute."""
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise ArtifactError(
            f"the ranker reads {', '.join(unknown)}, and the columns are {', '.join(COLUMNS)}: train it again"
        )


def weighted_value(probabilities: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """float32 [C]: the sum of weight times probability; without weights each probability counts once.

    Raises:
        ArtifactError: a weight is for a probability that is not there.
    """
    require_outputs(weights, tuple(probabilities))
    value = np.zeros(len(next(iter(probabilities.values()), ())), dtype=np.float32)
    for name, weight in (weights or dict.fromkeys(probabilities, 1.0)).items():
        value += np.float32(weight) * probabilities[name]
    return value


def require_outputs(weights: Mapping[str, float], outputs: Sequence[str], ranker: str = "the ranker") -> None:
    """Raises ArtifactError, which lists the outputs, where a weight is for none of them."""
    unknown = [name for name in weights if name not in outputs]
    if unknown:
        raise ArtifactError(
            f"[recommender.rank] value weighs {', '.join(unknown)}, and {ranker} gives {', '.join(outputs)}: "
            "take out the others, or train a ranker that gives them"
        )
