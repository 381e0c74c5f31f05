"""Choose a slate as a set: valuable items that do not repeat each other.

Letters: C candidates, D width of a content vector, L places of the slate.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config

Values = NDArray[np.float32]
Order = NDArray[np.int64]


class RerankConfig(Config):
    """How much diversity is worth.

    Attributes:
        diversity: weight of dissimilarity against value: 0 = order of value alone, 1 = dissimilarity alone.
        window: only so many of the best candidates may be moved; what follows keeps the order of value.
    """

    diversity: Annotated[float, Field(ge=0, le=1)] = 0.1
    window: Annotated[int, Field(gt=0)] = 200


def diversify(
    value: Values, vectors: NDArray[np.float32], present: NDArray[np.bool_], limit: int, config: RerankConfig
) -> Order:
    """`mmr` over the `config.window` best candidates, then the others by value: int64 [min(limit, C)].

    Arguments as in `mmr`.
    """
    by_value = _by_value(value)
    window = by_value[: config.window]
    chosen = window[mmr(value[window], vectors[window], present[window], limit, config.diversity)]
    return np.concatenate([chosen, by_value[config.window :]])[:limit]


def mmr(value: Values, vectors: NDArray[np.float32], present: NDArray[np.bool_], limit: int, weight: float) -> Order:
    """Maximal marginal relevance: place by place the candidate with the largest

        (1 - weight) * scaled value - weight * largest cosine to what is already chosen.

    Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing
    summaries", SIGIR 1998. The value is divided by the distance between the candidates' 10 % and 90 % quantiles, so
    that one weight means the same for probabilities, inner products and logits, and one outstanding candidate does
    not make the others look alike. Negative cosines count as 0: opposite is no more diverse than unrelated.

    Args:
        value: float32 [C], the larger the better; NaN comes last.
        vectors: float32 [C, D], L2-normalised content vectors.
        present: bool [C]; a candidate without a vector is dissimilar to everything.
        limit: places to fill.
        weight: in [0, 1]; 0 gives the order of value, ties by place.

    Returns:
        int64 [min(limit, C)], places of the chosen candidates, best first, none twice.
    """
    by_value = _by_value(value)
    n_chosen = max(min(limit, len(value)), 0)
    if weight == 0 or n_chosen < 2:
        return by_value[:n_chosen]
    # In the order of value, argmax settles ties for the more valuable candidate.
    worth = np.float32(1.0 - weight) * _scaled(value[by_value])
    content = np.where(present[by_value, None], vectors[by_value], np.float32(0)).astype(np.float32, copy=False)
    nearest = np.zeros(len(value), dtype=np.float32)
    chosen = np.empty(n_chosen, dtype=np.int64)
    for place in range(n_chosen):
        best = int(np.argmax(worth - np.float32(weight) * nearest))
        chosen[place] = best
        worth[best] = -np.inf
        np.maximum(nearest, content @ content[best], out=nearest)
    return by_value[chosen]


def _by_value(value: Values) -> Order:
    return np.argsort(-value, kind="stable").astype(np.int64, copy=False)


def _scaled(descending: Values) -> Values:
    """Values in units of their 10-90 % spread; where that is 0, of their whole range; all 0 where they are equal."""
    finite = np.isfinite(descending)
    if not finite.any():
        return np.zeros_like(descending)
    known = descending[finite].astype(np.float64)
    best, worst, last = known[0], known[-1], len(known) - 1
    spread = known[int(0.1 * last)] - known[int(np.ceil(0.9 * last))] or best - worst or 1.0
    # What is not finite stays just below or above all others.
    filled = np.nan_to_num(
        descending.astype(np.float64), nan=worst - spread, neginf=worst - spread, posinf=best + spread
    )
    scaled: Values = ((filled - best) / spread).astype(np.float32)
    return scaled
