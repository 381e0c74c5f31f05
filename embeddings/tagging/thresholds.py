"""From which confidence on a tag counts, and from which one it is unsure: chosen on labels that were held out.

Letters: n labelled items of one tag.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.heads import Threshold
from recsys.config import Config

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Origin = Literal["held_out", "unreached", "few_labels", "taxonomy"]

FEWEST_YES = 8
NEVER = 1.01


class ThresholdRule(Config):
    """What thresholds are chosen for.

    Attributes:
        precision: share of the yes's that must be right.
        no_precision: share of the no's that must be right; what lies between is unsure.
        sureness: how sure that must be, from the labels there are: the lower end of a one-sided Wilson interval counts;
            .5 takes the measured share as it is.
        default: where labels are too few to say.
        unsure_from: share of the default from which it is unsure.
    """

    precision: float
    no_precision: float
    sureness: float
    default: float
    unsure_from: float


class Chosen(Config):
    """One tag's threshold and why.

    Attributes:
        origin: `held_out`: the lowest confidence that reaches the precision; `unreached`: none does, and the tag is
            never given; `few_labels`: the default, because not even a head without a fault could show it on so few
            labels; `taxonomy`: as it says.
        precision: on the labels that it was chosen on; None where nothing lies above it.
        n_above: labelled items that lie above it.
    """

    threshold: Threshold
    origin: Origin
    precision: float | None
    n_above: int


def choose_threshold(confidence: Floats, y: Floats, rule: ThresholdRule, *, fixed: float | None = None) -> Chosen:
    """The threshold of one tag.

    Args:
        confidence: float32 [n], calibrated, from heads that did not learn from these items.
        y: float32 [n], 1 = yes.
        fixed: the taxonomy's own threshold, which is taken as it is.
    """
    yes_from = rule.default
    origin: Origin = "few_labels"
    enough = min((y > 0).sum(), (y <= 0).sum()) >= FEWEST_YES
    if fixed is not None:
        yes_from, origin = fixed, "taxonomy"
    elif enough and can_be_shown(int((y > 0).sum()), rule.precision, rule.sureness):
        reached = lowest_reaching(confidence, y, rule.precision, rule.sureness)
        yes_from, origin = (NEVER, "unreached") if reached is None else (reached, "held_out")
    unsure_from = rule.unsure_from * min(rule.default, yes_from)
    if enough and can_be_shown(int((confidence < np.float32(yes_from)).sum()), rule.no_precision, rule.sureness):
        unsure_from = highest_no(confidence, y, rule.no_precision, rule.sureness, below=yes_from)
    above = confidence >= np.float32(yes_from)
    return Chosen(
        threshold=Threshold(yes=yes_from, unsure=unsure_from),
        origin=origin,
        precision=float((y[above] > 0).mean()) if above.any() else None,
        n_above=int(above.sum()),
    )


def lowest_reaching(confidence: Floats, y: Floats, target: float, sureness: float) -> float | None:
    """The lowest confidence from which on the yes's are right often enough; None: from none on.

    Half way from what is just not among them: a head that tells all items apart should not ask for its own extremes.
    """
    levels, yes, n = _by_level(confidence, y)
    right, total = yes[::-1].cumsum()[::-1], n[::-1].cumsum()[::-1]
    good = np.flatnonzero((wilson_low(right, total, sureness) >= target) & (right >= FEWEST_YES))
    return _boundary(levels, int(good[0])) if len(good) else None


def can_be_shown(n: int, target: float, sureness: float) -> bool:
    """Whether `n` labels would be enough to say that the share is reached, if every one were right."""
    most = np.array([n], np.float64)
    return n > 0 and float(wilson_low(most, most, sureness)[0]) >= target


def highest_no(confidence: Floats, y: Floats, target: float, sureness: float, *, below: float) -> float:
    """The confidence below which a no is right often enough, `below` at most; 0 where no part of it is."""
    levels, yes, n = _by_level(confidence, y)
    total = n.cumsum()
    right = total - yes.cumsum()
    inside = levels < np.float32(below)
    if not inside.any():
        return below
    good = np.flatnonzero((wilson_low(right, total, sureness) >= target) & inside)
    if not len(good):
        return 0.0
    after = int(good[-1]) + 1
    return below if after == len(levels) or not inside[after] else min(_boundary(levels, after), below)


def wilson_low(right: Doubles, n: Doubles, sureness: float) -> Doubles:
    """Lower end of the one-sided Wilson score interval of right / n (Wilson, 1927); sureness .5 gives right / n."""
    z = NormalDist().inv_cdf(sureness)
    share = right / n
    spread = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low: Doubles = (share + z**2 / (2 * n) - spread) / (1 + z**2 / n)
    return low


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided Wilson score interval of right / n."""
    tail = (1 + confidence) / 2
    rights, ns = np.array([right, n - right], np.float64), np.array([n, n], np.float64)
    low, missed = wilson_low(rights, ns, tail)
    return float(low), float(1 - missed)


def _boundary(levels: Floats, at: int) -> float:
    """Half way between a level and the one below it."""
    return (float(levels[at - 1]) + float(levels[at])) / 2 if at else float(levels[at])


def _by_level(confidence: Floats, y: Floats) -> tuple[Floats, Doubles, Doubles]:
    """Confidences that occur, rising, and of each the yes's and the items: what is equal counts together."""
    levels, at = np.unique(confidence, return_inverse=True)
    return levels, np.bincount(at, y > 0).astype(np.float64), np.bincount(at).astype(np.float64)
