"""How much boxes overlap, and which of those that do are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""[K, 4]: x0, y0, x1, y1."""


def overlap(box: Boxes, boxes: Boxes) -> NDArray[np.float64]:
    """Intersection over union of one box [4] with each of `boxes`: float64 [K]; 0 where both are empty."""
    corners = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(corners, 0.0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    ratio: NDArray[np.float64] = shared / np.maximum(areas - shared, 1e-12)
    return ratio


def suppressed(
    boxes: Boxes, scores: NDArray[np.floating], labels: NDArray[np.integer], *, max_overlap: float, most: int
) -> NDArray[np.intp]:
    """Places of the boxes that are kept, the best first, at most `most`: non-maximum suppression within each label.

    Going from the best score down, a box goes when it overlaps one that is kept by more than `max_overlap` (1 keeps
    all). Equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, labels = boxes[order], labels[order]
    alive = np.ones(len(order), np.bool_)
    kept: list[int] = []
    for place in range(len(order)):
        if len(kept) == most:
            break
        if alive[place]:
            kept.append(place)
            rest = slice(place + 1, None)
            alive[rest] &= (labels[rest] != labels[place]) | (overlap(boxes[place], boxes[rest]) <= max_overlap)
    return order[kept]
