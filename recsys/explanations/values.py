"""The value of items when only some players take part: the worth of each coalition.

What a player knows is 0 where it does not take part. A learned ranker that reads the query vector reads the whole one
in every coalition: the players share what is said of the items, not who asks.

Letters: S coalitions (or other circumstances), P players, C candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from recsys.explanations.shapley import Worth, coalitions
from recsys.live import CatalogView
from recsys.ports import RankFeatures
from recsys.ranking import RankConfig, learned_value
from recsys.release import LoadedRelease

Floats = NDArray[np.float32]
POPULARITY = "popularity"
ValueOf = Callable[[RankFeatures], Worth]
"""Features, each float32 [S, C], to the value float64 [S, C]. Raises ArtifactError when a ranker fails."""


def blended(release: LoadedRelease) -> ValueOf:
    """The value by the release's formula."""

    def value_of(features: RankFeatures) -> Worth:
        terms = np.stack(list(release.schema.blend.parts(features).values()))
        return np.asarray(terms.sum(axis=0, dtype=np.float64))

    return value_of


def learned(catalog: CatalogView, query_vector: Floats | None, config: RankConfig) -> ValueOf:
    """The value by the release's ranker, in one call for all circumstances."""

    def value_of(features: RankFeatures) -> Worth:
        flat = RankFeatures(
            features.similarity.ravel(),
            features.transition.ravel(),
            features.log_popularity.ravel(),
            None if features.is_new is None else features.is_new.ravel(),
            None if features.tag_affinity is None else features.tag_affinity.ravel(),
        )
        value = learned_value(flat, query_vector, catalog, config)
        return np.asarray(value, dtype=np.float64).reshape(features.similarity.shape)

    return value_of


def worth_of_coalitions(similarity: Floats, features: RankFeatures, leads: int, value_of: ValueOf) -> Worth:
    """float64 [2**P, C]: the worth of each coalition of P players, of whom popularity is the last.

    Args:
        similarity: float32 [2**(P - 1), C], for each coalition of the others.
        features: float32 [C] each, as they were ranked by. Being new goes with popularity: nobody knows it yet.
        leads: the number of the player that knows what follows the history, and what its tags are.
    """
    n_others = len(similarity).bit_length() - 1
    is_in = coalitions(n_others + 1)
    leading, popularity = is_in[:, leads, None], is_in[:, n_others, None]
    return value_of(
        RankFeatures(
            np.concatenate([similarity, similarity]),
            np.where(leading, features.transition, np.float32(0)),
            np.where(popularity, features.log_popularity, np.float32(0)),
            None if features.is_new is None else np.where(popularity, features.is_new, np.float32(0)),
            None if features.tag_affinity is None else np.where(leading, features.tag_affinity, np.float32(0)),
        )
    )
