"""How much a candidate's tags are those of a history.

    share[t]    = sum over the latest interactions h that have tag t of decay ** k / sum over them all of decay ** k
    affinity[c] = mean over the candidate's tags of share[t]

where k = 0 is the last interaction: a profile of weighted content terms, compared with an item's own (Pazzani and
Billsus, "Content-Based Recommendation Systems", 2007), with the weights of `recsys.features.transitions`.

Letters: T interactions, C candidates, G tags of an item at most, -1 where it has fewer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]


def tag_affinity(history: Codes, candidates: Codes, decay: float) -> Floats:
    """float32 [C], in [0, 1]; 0 for a candidate without tags, and without a history.

    Args:
        history: int32 [T, G], tags by code of the latest interactions, the last one first; of each item each once.
        candidates: int32 [C, G].
        decay: weight of each further step back.
    """
    there = candidates >= 0
    if not len(history) or not there.any():
        return np.zeros(len(candidates), np.float32)
    weights = decay ** np.arange(len(history), dtype=np.float64)
    codes, places = np.unique(history, return_inverse=True)
    shares = np.bincount(places.ravel(), np.repeat(weights, history.shape[1]), len(codes)) / weights.sum()
    at = np.minimum(np.searchsorted(codes, candidates), len(codes) - 1)
    found = there & (codes[at] == candidates)
    total = np.where(found, shares[at], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(there.sum(axis=1), 1), dtype=np.float32)
