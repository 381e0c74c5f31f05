"""How sure a share is."""

from __future__ import annotations

import math

Z_95 = 1.959964


def wilson(n_right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """The interval of a share of `n` independent trials (Wilson, 1927), by default at 95 %."""
    share = n_right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
