"""Choices by chance, each with the probability that it had: what off-policy estimates divide by.

A propensity is the probability, under the policy and given the items at the places before it, that this item stands
at this place. It is exact: computed from the same numbers that the choice was made with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Order = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Chosen candidates and how likely each was.

    Attributes:
        chosen: int64 [L], none twice.
        propensity: float32 [L], in (0, 1].
        by_chance: bool [L], True where the item would not have stood there without exploration.
    """

    chosen: Order
    propensity: Floats
    by_chance: NDArray[np.bool_]


def mixed_in(base: Order, pool: Order, n_places: int, share: float, rng: np.random.Generator) -> Drawn:
    """Place by place: with probability `share` a cold item of what is left of the pool, each with the same chance;
    else the next of the base order that is not shown yet. With P what is left of the pool at that place,

        propensity(i) = (1 - share) [i is next in the base order] + share [i in P] / |P|

    and where P is empty the next of the base order has propensity 1. (Epsilon-greedy, slot by slot.)

    Args:
        base: int64 [B], candidates in the order to show them; B >= n_places.
        pool: int64 [P], the cold ones, none twice; they may stand in the base order too.
    """
    chosen = np.empty(n_places, dtype=np.int64)
    propensity = np.ones(n_places, dtype=np.float32)
    by_chance = np.zeros(n_places, dtype=np.bool_)
    explores = (rng.random(n_places) < share).tolist()
    draws = rng.random(n_places).tolist()
    left, shown, waiting = pool.tolist(), set[int](), iter(base.tolist())
    following = next(waiting)
    for place in range(n_places):
        while following in shown:
            following = next(waiting)
        n_left = len(left)
        taken = left[int(draws[place] * n_left)] if n_left and explores[place] else following
        in_pool = taken in left
        if n_left:
            propensity[place] = (1 - share) * (taken == following) + (share / n_left if in_pool else 0.0)
        if in_pool:
            left.remove(taken)
        by_chance[place] = taken != following
        chosen[place] = taken
        shown.add(taken)
    return Drawn(chosen, propensity, by_chance)


def plackett_luce(logits: Floats, n_places: int, rng: np.random.Generator) -> Drawn:
    """Items one after the other, each with probability proportional to exp(logit) among those that are left.

    Drawn at once as the `n_places` largest of logit + Gumbel noise (Yellott, "The relationship between Luce's choice
    axiom, Thurstone's theory of comparative judgment, and the double exponential distribution", 1977; Kool et al.,
    "Stochastic beams and where to find them", 2019):

        propensity of the k-th = exp(logit_k) / sum of exp(logit) over all but the first k - 1 chosen.

    Args:
        logits: float32 [C], finite; C >= n_places.
    """
    exact = logits.astype(np.float64)
    order = np.argsort(-(exact + rng.gumbel(size=len(exact))), kind="stable")
    ordered = exact[order]
    # In logarithms and from the end: no difference of large numbers, and nothing underflows to 0 / 0.
    left = np.logaddexp.accumulate(ordered[::-1])[::-1]
    chosen = order[:n_places].astype(np.int64, copy=False)
    propensity = _possible(np.exp(ordered[:n_places] - left[:n_places]))
    return Drawn(chosen, propensity, chosen != np.arange(n_places))


def soft_choice(scores: Floats, temperature: float, rng: np.random.Generator) -> tuple[int, float]:
    """One candidate with probability proportional to exp(score / temperature), and that probability.

    Args:
        scores: float32 [C]; -inf for what may not be chosen; at least one is finite.
    """
    logits = scores.astype(np.float64) / temperature
    best = int((logits + rng.gumbel(size=len(logits))).argmax())
    weights = np.exp(logits - logits.max())
    return best, float(_possible(weights[best] / weights.sum()))


def _possible(probability: NDArray[np.float64]) -> Floats:
    """In float32, and never 0: an item that was shown was possible."""
    return np.maximum(probability, 1e-30).astype(np.float32)
