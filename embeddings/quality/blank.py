"""Pictures that show nothing: one flat colour, a placeholder's few letters, a gradient.

The rules were set on some 3,900 film posters: none of them comes near the limits (the flattest has a spread of 19, the
largest share of one colour is .88, the fewest edges .016), while white, black, noisy and "no image" pictures lie
beyond them.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["constant", "one_colour", "no_detail"]

FIGURES = ("spread", "one_colour", "entropy", "edges")
"""spread: the largest standard deviation of a channel, in levels of 0..255.
one_colour: share of pixels within `NEAR_LEVELS` of the median colour in all channels.
entropy: bits, of the colours in 16 x 16 x 16 cells.
edges: share of pixels that differ from a neighbour by more than `EDGE_LEVELS` in some channel."""

NEAR_LEVELS, EDGE_LEVELS = 12, 16
MAX_SPREAD = 2.0
MIN_ONE_COLOUR = 0.97
MAX_EDGES = 0.001


def figures_of(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`FIGURES` float32 [4] of a picture uint8 [S, S, 3]."""
    levels = pixels.astype(np.int16)
    flat = levels.reshape(-1, 3)
    off = np.abs(flat - np.median(flat, axis=0)).max(axis=1)
    cells = (flat >> 4).astype(np.int64) @ np.array([256, 16, 1])
    counts = np.bincount(cells)
    shares = counts[counts > 0] / len(flat)
    steps = np.maximum(
        np.abs(np.diff(levels, axis=0))[:, :-1].max(axis=2), np.abs(np.diff(levels, axis=1))[:-1].max(axis=2)
    )
    return np.array(
        [
            flat.std(axis=0).max(),
            (off <= NEAR_LEVELS).mean(),
            -(shares * np.log2(shares)).sum() + 0.0,
            (steps > EDGE_LEVELS).mean(),
        ],
        dtype=np.float32,
    )


def blank_kind(figures: NDArray[np.float32]) -> Kind | None:
    """What kind of nothing a picture with these `FIGURES` float32 [4] shows; None where it shows something.

    The picture was made small before, which averages the noise of a JPEG file or a sensor away.
    """
    spread, one_colour, _, edges = figures.tolist()
    if spread <= MAX_SPREAD and one_colour >= MIN_ONE_COLOUR and edges <= MAX_EDGES:
        return "constant"
    if one_colour >= MIN_ONE_COLOUR:
        return "one_colour"
    return "no_detail" if edges <= MAX_EDGES else None
