"""Choose a slate as a set: valuable items that do not repeat each other.

Letters: C candidates, D width of a content vector, L places of the slate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from recsys.reranking.config import RerankConfig

Values = NDArray[np.float32]
Floats = NDArray[np.float32]
Order = NDArray[np.int64]

GRAM_UP_TO = 128  # candidates; beyond it most of the Gram matrix would never be looked at
LONGEST = 1.07  # squared length of a vector of "length 1" after rounding to int8


def diversify(value: Values, vectors: Floats, present: NDArray[np.bool_], limit: int, config: RerankConfig) -> Order:
    """`mmr` over the `config.window` best candidates, then the others by value: int64 [min(limit, C)].

    Arguments as in `mmr`.
    """
    by_value = order_of(value)
    window = by_value[: config.window]
    chosen = window[mmr(value[window], vectors[window], present[window], limit, config.diversity)]
    return np.concatenate([chosen, by_value[config.window :]])[:limit]


def mmr(value: Values, vectors: Floats, present: NDArray[np.bool_], limit: int, weight: float) -> Order:
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
    by_value = order_of(value)
    n_chosen = max(min(limit, len(value)), 0)
    if weight == 0 or n_chosen < 2:
        return by_value[:n_chosen]
    worth = worth_of(value[by_value], weight)
    near = by_value[: contenders(worth, n_chosen, weight)]
    content = np.where(present[near, None], vectors[near], np.float32(0)).astype(np.float32, copy=False)
    return by_value[fill(worth[: len(near)], content, n_chosen, weight)]


def order_of(value: Values) -> Order:
    """int64 [C]: best first, ties by place, NaN last."""
    return np.argsort(-value, kind="stable").astype(np.int64, copy=False)


def worth_of(descending: Values, weight: float) -> Values:
    """float32 [C]: what each candidate is worth before anything is chosen, from values in falling order."""
    return np.float32(1.0 - weight) * scaled(descending)


def contenders(worth: Values, limit: int, weight: float) -> int:
    """How many of the most valuable candidates can come into the slate at all; the others need not be looked at.

    At each place one of the `limit` most valuable is still free, and its score is at least its worth less `weight`
    times the largest cosine there is. Who is worth less than that is never chosen.
    """
    floor = worth[limit - 1] - np.float32(weight * LONGEST + 1e-5)
    return int(np.count_nonzero(worth >= floor))


def fill(worth: Values, content: Floats, n_places: int, weight: float) -> Order:
    """int64 [n_places], the places of `mmr`'s choice among candidates in falling order of worth.

    Args:
        worth: float32 [C], see `worth_of`; C >= n_places.
        content: float32 [C, D], rows of length 1, or 0 where there is no content.
    """
    scores = Scores(worth, content, n_places, weight)
    chosen = np.empty(n_places, dtype=np.int64)
    for place in range(n_places):
        # In the order of value, argmax settles ties for the more valuable candidate.
        best = int(scores.now.argmax())
        chosen[place] = best
        scores.take(best)
    return chosen


class Scores:
    """The score of each candidate given what was taken so far; `now` float32 [C] is -inf for what was taken.

    The largest of the cosines gives the least of `worth - weight * cosine`, so a running minimum is all there is to
    keep, and since it begins at `worth` a negative cosine counts as 0.
    """

    def __init__(self, worth: Values, content: Floats, n_places: int, weight: float) -> None:
        self.now = worth.copy()
        self._worth = worth
        self._less: Floats | None = None
        if weight == 0:
            return
        part = content * np.float32(np.sqrt(weight))
        if len(worth) <= min(GRAM_UP_TO, 6 * n_places):
            # x @ x.T is recognised, and half as much work.
            less = part @ part.T
            np.subtract(worth, less, out=less)
            self._less = less
        self._part = part
        self._row = np.empty_like(worth)
        self._weighs = True

    _weighs = False

    def take(self, best: int) -> None:
        """Take the candidate at this place out, and count its likeness against the others."""
        now = self.now
        if self._less is not None:
            np.minimum(now, self._less[best], out=now)
        elif self._weighs:
            row = self._row
            np.dot(self._part, self._part[best], out=row)
            np.subtract(self._worth, row, out=row)
            np.minimum(now, row, out=now)
        now[best] = -np.inf


def scaled(descending: Values) -> Values:
    """Values in units of their 10-90 % spread, 0 the best; where that is 0, of their whole range; all 0 where they
    are equal. What is not finite stays just below or above all others."""
    if not len(descending):
        return np.zeros_like(descending)
    if np.isfinite(descending[0]) and np.isfinite(descending[-1]):
        known = descending.astype(np.float64)
        return _in_units(known, float(known[0]), _spread(known))
    known = descending[np.isfinite(descending)].astype(np.float64)
    if not len(known):
        return np.zeros_like(descending)
    best, worst, spread = float(known[0]), float(known[-1]), _spread(known)
    filled = np.nan_to_num(
        descending.astype(np.float64), nan=worst - spread, neginf=worst - spread, posinf=best + spread
    )
    return _in_units(filled, best, spread)


def _spread(descending: NDArray[np.float64]) -> float:
    last = len(descending) - 1
    best, high, low, worst = (float(descending[at]) for at in (0, int(0.1 * last), math.ceil(0.9 * last), last))
    return high - low or best - worst or 1.0


def _in_units(values: NDArray[np.float64], best: float, spread: float) -> Values:
    values -= best
    values /= spread
    return values.astype(np.float32)
