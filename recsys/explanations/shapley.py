"""What each player brings to a game: its Shapley value, from the worth of every coalition.

    phi_p = sum over coalitions S without p of |S|! (n - |S| - 1)! / n! * (v(S + p) - v(S))

It is the one division of v(all) - v(nobody) that adds up, treats equal players equally, gives nothing to a player that
changes nothing, and adds where games add (Shapley, "A value for n-person games", 1953).

Letters: n players. Coalition number s holds player p where bit p of s is set, so 0 is nobody and 2**n - 1 is all.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Worth = NDArray[np.float64]


def coalitions(n_players: int) -> Mask:
    """bool [2**n, n]: who is in each coalition."""
    numbers = np.arange(1 << n_players)
    return np.asarray((numbers[:, None] >> np.arange(n_players)) & 1, dtype=np.bool_)


def shapley_values(worth: Worth) -> Worth:
    """float64 [n, ...] from the worth of each coalition float64 [2**n, ...]; exact, 2**n terms for each player.

    Raises:
        ValueError: the number of coalitions is no power of two.
    """
    n_players = max(len(worth).bit_length() - 1, 0)
    if len(worth) != 1 << n_players:
        raise ValueError(f"a game has 2**n coalitions, not {len(worth)}")
    is_in = coalitions(n_players)
    sizes = is_in.sum(axis=1)
    values = np.zeros((n_players, *worth.shape[1:]), dtype=np.float64)
    for player in range(n_players):
        without = np.flatnonzero(~is_in[:, player])
        # |S|! (n - |S| - 1)! / n! = 1 / (n * C(n - 1, |S|))
        weights = np.array([1 / (n_players * comb(n_players - 1, size)) for size in sizes[without].tolist()])
        values[player] = np.tensordot(weights, worth[without | 1 << player] - worth[without], axes=1)
    return values
