"""How good a head is on items that it has not learned from, with intervals by resampling items.

Letters: N items, C tags, R resamples (row 0 is the sample itself).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.training import Mask
from recsys.metrics.bootstrap import Estimate

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Measure = Literal["macro_ap", "micro_ap", "accuracy"]

N_BOOTSTRAP = 400
MAX_CELLS_AT_ONCE = 1 << 22
MOST_PAIRS_RESAMPLED = 1 << 20


@dataclass(frozen=True)
class Judged:
    """What a head said of labelled items.

    Attributes:
        confidence: float32 [N, C].
        yes: bool [N, C], what it would have given.
        y: float32 [N, C]; known: bool [N, C].
        exclusive: each item has one of the tags.
    """

    confidence: Floats
    yes: Mask
    y: Floats
    known: Mask
    exclusive: bool


def measured(judged: Judged, tags: tuple[str, ...], *, seed: int, n_bootstrap: int = N_BOOTSTRAP) -> dict[str, object]:
    """`by_tag`, `macro`, `micro`, `accuracy` (None unless exclusive) and `confusion`, as JSON.

    Precision, recall and F1 are of the verdicts, AP (average precision) and accuracy of the confidences. Where nothing
    can be said, as of the precision of a tag that was never given, the value is None.
    """
    rows = [_all_measures(judged, weights) for weights in resamples(len(judged.y), n_bootstrap, seed)]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    by_tag = [_of_tag(judged, columns, place, tag) for place, tag in enumerate(tags)]
    micro = {name: _estimate(columns[f"micro_{name}"]) for name in ("precision", "recall", "f1")}
    return {
        "n_items": len(judged.y),
        "by_tag": by_tag,
        "macro": {name: _estimate(_mean(columns[name])) for name in ("precision", "recall", "f1", "ap")},
        "micro": micro | {"ap": figure_json(estimate(judged, "micro_ap", seed=seed, n_bootstrap=n_bootstrap))},
        "accuracy": _estimate(columns["accuracy"]) if judged.exclusive else None,
        "confusion": {"tags": list(tags), "counts": confusion(judged).tolist()},
    }


def estimate(judged: Judged, measure: Measure, *, seed: int, n_bootstrap: int = N_BOOTSTRAP) -> Estimate:
    """One measure with its interval."""
    return _as_estimate(_resampled(judged, measure, seed, n_bootstrap))


def difference(a: Judged, b: Judged, measure: Measure, *, seed: int, n_bootstrap: int = N_BOOTSTRAP) -> Estimate:
    """measure(a) - measure(b) on the same items, which are resampled together."""
    return _as_estimate(_resampled(a, measure, seed, n_bootstrap) - _resampled(b, measure, seed, n_bootstrap))


def confusion(judged: Judged) -> NDArray[np.int64]:
    """int64 [C, C]. Exclusive: items of tag i whose surest tag is j. Else, on the diagonal what was rightly given, and
    beside it items that have tag i and were given j, which they do not have."""
    yes = judged.known & (judged.y > 0)
    if judged.exclusive:
        given = np.zeros_like(yes)
        given[np.arange(len(yes)), judged.confidence.argmax(axis=1)] = True
        return yes.astype(np.int64).T @ given.astype(np.int64)
    wrong = judged.yes & judged.known & (judged.y <= 0)
    counts = yes.astype(np.int64).T @ wrong.astype(np.int64)
    np.fill_diagonal(counts, (judged.yes & yes).sum(axis=0))
    return counts


def average_precision(confidence: Floats, y: Floats, weights: Doubles) -> Doubles:
    """float64 [R]: the mean over yes's of the precision down to each; what is equally confident comes together.

    Args:
        confidence, y: [n].
        weights: float64 [R, n], how often each pair counts. Without any yes the result is NaN.
    """
    order = np.argsort(-confidence, kind="stable")
    ends = np.flatnonzero(np.diff(confidence[order], append=-np.inf) != 0)
    total = weights[:, order].cumsum(axis=1)[:, ends]
    right = (weights[:, order] * (y[order] > 0)).cumsum(axis=1)[:, ends]
    gained = np.diff(right, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(total > 0, right / np.maximum(total, 1e-12), 0)
        found: Doubles = (gained * precision).sum(axis=1) / right[:, -1]
    return found


def resamples(n: int, n_bootstrap: int, seed: int) -> Iterator[Doubles]:
    """float64 [R', N] blocks of how often each item counts: once in the first row, then as drawn with replacement."""
    yield np.ones((1, n))
    rng = np.random.default_rng(seed)
    step = max(1, MAX_CELLS_AT_ONCE // n)
    for start in range(0, n_bootstrap, step):
        n_rows = min(step, n_bootstrap - start)
        drawn = rng.integers(0, n, size=(n_rows, n)) + np.arange(n_rows)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=n_rows * n).reshape(n_rows, n).astype(np.float64)


def _resampled(judged: Judged, measure: Measure, seed: int, n_bootstrap: int) -> Doubles:
    """float64 [1 + R]; the value alone where there are too many pairs to sort them again and again."""
    if measure == "micro_ap" and judged.y.size > MOST_PAIRS_RESAMPLED:
        n_bootstrap = 0
    blocks = resamples(len(judged.y), n_bootstrap, seed)
    return np.concatenate([part for weights in blocks for part in _one_measure(judged, measure, weights)])


def _one_measure(judged: Judged, measure: Measure, weights: Doubles) -> Iterator[Doubles]:
    if measure == "accuracy":
        yield _accuracy(judged, weights)
    elif measure == "macro_ap":
        yield _mean(_by_tag_ap(judged, weights))
    else:
        item, tag = np.nonzero(judged.known)
        step = max(1, MAX_CELLS_AT_ONCE // max(len(item), 1))
        for start in range(0, len(weights), step):
            each = weights[start : start + step][:, item]
            yield average_precision(judged.confidence[item, tag], judged.y[item, tag], each)


def _all_measures(judged: Judged, weights: Doubles) -> dict[str, Doubles]:
    """name → float64 [R, C], or [R]."""
    yes, given = judged.known & (judged.y > 0), judged.known & judged.yes
    right, n_given, n_yes = (weights @ each.astype(np.float64) for each in (yes & given, given, yes))
    found = dict(zip(("precision", "recall", "f1"), _shares(right, n_given, n_yes), strict=True))
    together = _shares(*(each.sum(axis=1) for each in (right, n_given, n_yes)))
    found |= dict(zip(("micro_precision", "micro_recall", "micro_f1"), together, strict=True))
    return found | {"ap": _by_tag_ap(judged, weights), "accuracy": _accuracy(judged, weights)}


def _shares(right: Doubles, n_given: Doubles, n_yes: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return right / n_given, right / n_yes, 2 * right / (n_given + n_yes)


def _by_tag_ap(judged: Judged, weights: Doubles) -> Doubles:
    columns = []
    for at in range(judged.y.shape[1]):
        rows = np.flatnonzero(judged.known[:, at])
        if not len(rows):
            columns.append(np.full(len(weights), np.nan))
            continue
        columns.append(average_precision(judged.confidence[rows, at], judged.y[rows, at], weights[:, rows]))
    return np.stack(columns, axis=1)


def _accuracy(judged: Judged, weights: Doubles) -> Doubles:
    """Of the items whose tag is known: the surest is the right one."""
    said = (judged.known & (judged.y > 0)).any(axis=1)
    right = judged.y[np.arange(len(judged.y)), judged.confidence.argmax(axis=1)] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Doubles = (weights @ (right & said)) / (weights @ said)
    return share


def _of_tag(judged: Judged, columns: dict[str, Doubles], at: int, tag: str) -> dict[str, object]:
    yes, given = judged.known[:, at] & (judged.y[:, at] > 0), judged.known[:, at] & judged.yes[:, at]
    counts = {
        "n_known": int(judged.known[:, at].sum()),
        "n_yes": int(yes.sum()),
        "true_yes": int((yes & given).sum()),
        "false_yes": int((given & ~yes).sum()),
    }
    return (
        {"tag": tag} | counts | {name: _estimate(columns[name][:, at]) for name in ("precision", "recall", "f1", "ap")}
    )


def _mean(by_tag: Doubles) -> Doubles:
    """float64 [R]: over the tags of which something can be said."""
    there = ~np.isnan(by_tag)
    n = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Doubles = np.where(there, by_tag, 0).sum(axis=1) / n
    return mean


def _estimate(resampled: Doubles) -> dict[str, float | None]:
    return figure_json(_as_estimate(resampled))


def figure_json(found: Estimate) -> dict[str, float | None]:
    """With None for what is no number."""
    return {name: None if value is None or np.isnan(value) else value for name, value in found.as_json().items()}


def _as_estimate(resampled: Doubles) -> Estimate:
    """Row 0 is the value; the middle 95 % of the others is its interval."""
    others = resampled[1:][~np.isnan(resampled[1:])]
    if not len(others):
        return Estimate(float(resampled[0]))
    low, high = np.quantile(others, [0.025, 0.975])
    return Estimate(float(resampled[0]), float(low), float(high))
