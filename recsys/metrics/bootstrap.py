"""Intervals by resampling users: percentile bootstrap of a mean, and of the difference of two means.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 (percentile interval) and 8 (resample the
independent units). The unit is the user: rows of one user are resampled together, because they are not independent.

Letters: T rows, U users, M measures, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.float64]

MAX_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval. `low` and `high` are None where no interval can be had (a property of all lists
    together, such as coverage: a resample, which leaves users out, always covers less)."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """True where the whole interval lies on one side of 0: for a difference, "significant"."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


def bootstrap_mean(
    values: Values, users: Rows, *, n_bootstrap: int, seed: int, confidence: float = 0.95
) -> list[Estimate]:
    """The mean over rows of each measure, with its interval; all measures share the resamples.

    Args:
        values: float64 [T, M], one row a target, one column a measure.
        users: int64 [T], whose row it is; any numbers, rows in any order.
        n_bootstrap: resamples R.
        seed: the same seed and data give the same interval.
        confidence: share of resampled means inside the interval.

    Returns:
        M estimates.

    Raises:
        ValueError: no rows.
    """
    if len(values) == 0:
        raise ValueError("nothing to average: there are no rows; leave this group out")
    _, user_of_row = np.unique(users, return_inverse=True)
    n_users = int(user_of_row.max()) + 1
    counts = np.bincount(user_of_row, minlength=n_users).astype(np.float64)
    sums = np.stack([np.bincount(user_of_row, column, minlength=n_users) for column in values.T], axis=1)
    means = np.concatenate(
        [(weights @ sums) / (weights @ counts)[:, None] for weights in _resamples(n_users, n_bootstrap, seed)]
    )
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    return [Estimate(*map(float, three)) for three in zip(values.mean(axis=0), low, high, strict=True)]


def bootstrap_difference(
    a: Values, b: Values, users: Rows, *, n_bootstrap: int, seed: int, confidence: float = 0.95
) -> Estimate:
    """Paired bootstrap of `mean(a) - mean(b)`: both are measured on the same rows, and resampled together.

    Args:
        a: float64 [T].
        b: float64 [T], the same rows in the same order.
        users: int64 [T].
        n_bootstrap, seed, confidence: as in `bootstrap_mean`.

    Raises:
        ValueError: no rows, or a and b differ in length.
    """
    if len(a) != len(b):
        raise ValueError(f"a paired difference needs the same rows: {len(a)} and {len(b)}")
    difference = (a - b)[:, None]
    (estimate,) = bootstrap_mean(difference, users, n_bootstrap=n_bootstrap, seed=seed, confidence=confidence)
    return estimate


def _resamples(n_users: int, n_bootstrap: int, seed: int) -> Iterator[Values]:
    """How often each user is drawn, with replacement, in each resample: blocks of float64 [R', U], R in all."""
    rng = np.random.default_rng(seed)
    step = max(1, MAX_DRAWS_AT_ONCE // n_users)
    for start in range(0, n_bootstrap, step):
        n_rows = min(step, n_bootstrap - start)
        drawn = rng.integers(0, n_users, size=(n_rows, n_users)) + np.arange(n_rows)[:, None] * n_users
        counts = np.bincount(drawn.ravel(), minlength=n_rows * n_users)
        yield counts.reshape(n_rows, n_users).astype(np.float64)
