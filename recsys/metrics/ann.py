"""How much of the exact answer an approximate index finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def recall_against_exact(found: Rows, exact: Rows) -> float:
    """Mean share of the exact neighbours that were found: `mean(|found ∩ exact| / |exact|)` over queries.

    Aumüller, Bernhardsson and Faithfull, "ANN-Benchmarks", 2018 (by ids; order does not count). Negative rows
    (an index's "nothing there") match nothing. 1 where there is nothing to find.

    Args:
        found: int64 [B, K], no row twice in a line.
        exact: int64 [B, K'], no row twice in a line.
    """
    if exact.size == 0:
        return 1.0
    width = int(max(exact.max(), found.max(initial=0))) + 1
    query = np.arange(len(exact), dtype=np.int64)[:, None] * width
    hit = np.isin((query + exact)[exact >= 0], (query + found)[found >= 0])
    return float(hit.sum() / max(np.count_nonzero(exact >= 0), 1))
