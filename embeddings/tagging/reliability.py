"""How far confidences are from what they say: calibration error, Brier score, the points of a reliability diagram.

Letters: n pairs of an item and a tag, B bins.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config

Doubles = NDArray[np.float64]

N_BINS = 15


class ReliabilityBin(Config):
    """Confidences from `low` to `high`: how many, their mean, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    share_yes: float


class Reliability(Config):
    """How well `n` confidences mean what they say.

    Attributes:
        ece: expected calibration error over `N_BINS` bins of equal width: the mean over pairs of the distance between
            mean confidence and share of yes in a bin (Naeini et al., 2015).
        ece_equal_mass: the same over bins of equally many pairs, which rare high confidences do not escape.
        brier: mean of (confidence - label)^2.
        log_loss: mean of -log of what was given to the label.
        bins: of equal width, those that are not empty.
    """

    n: int
    ece: float
    ece_equal_mass: float
    brier: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]


def reliability(confidence: NDArray[np.float32], y: NDArray[np.float32]) -> Reliability:
    """Of confidences [n] of yes and labels [n]. Raises ValueError: there are none."""
    if not len(y):
        raise ValueError("there is nothing to compare: no labelled pair")
    p, yes = confidence.astype(np.float64), (y > 0).astype(np.float64)
    order = np.argsort(p, kind="stable")
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    bins = tuple(_bins(p, yes))
    return Reliability(
        n=len(y),
        ece=sum(each.n * abs(each.confidence - each.share_yes) for each in bins) / len(y),
        ece_equal_mass=sum(
            abs(float((p[part] - yes[part]).sum())) for part in np.array_split(order, min(N_BINS, len(y)))
        )
        / len(y),
        brier=float(np.mean((p - yes) ** 2)),
        log_loss=float(-np.mean(yes * np.log(inside) + (1 - yes) * np.log1p(-inside))),
        bins=bins,
    )


def _bins(p: Doubles, yes: Doubles) -> Iterator[ReliabilityBin]:
    at = np.minimum((p * N_BINS).astype(np.int64), N_BINS - 1)
    counts = np.bincount(at, minlength=N_BINS)
    confidence, right = (np.bincount(at, each, minlength=N_BINS) for each in (p, yes))
    for place in np.flatnonzero(counts):
        n = int(counts[place])
        yield ReliabilityBin(
            low=place / N_BINS,
            high=(place + 1) / N_BINS,
            n=n,
            confidence=float(confidence[place] / n),
            share_yes=float(right[place] / n),
        )
