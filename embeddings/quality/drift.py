"""Is a new batch like what was released? Three tests for each kind of content, and the figures behind them.

- `energy`: do the two sets of vectors have one distribution? Energy distance (Szekely and Rizzo 2013) of a sample of
  each, its p-value by permuting who belongs to which.
- `far`: are more of the new items far from everything released than released items are from one another?
- `missing`: have more, or fewer, of the new items no such content?

Samples are bounded, so that with millions of items only a shift that matters is found. A kind of content is alarmed
where one of its three p-values is below `ALPHA` / 3.

Letters: n new items, N released ones, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

AnyVectors = NDArray[np.float16] | NDArray[np.float32]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

ALPHA = 0.01
N_PERMUTATIONS = 1999
FEWEST_NEW = 8
FAR_SHARE = 0.01
"""Of released items, the share that counts as far from the rest."""

_ENERGY_SAMPLE = 1000
_FAR_SAMPLE = 2000
_CHUNK = 8192
_SAME = 1e-3
"""Vectors no further than this in any coordinate are the same content: float16 keeps 11 bits."""


@dataclass(frozen=True)
class Shift:
    """Of the means, in units of the released vectors' distance to their mean (RMS).

    Attributes:
        by_chance: what it would be for a random batch of this size.
    """

    size: float
    by_chance: float


@dataclass(frozen=True)
class Energy:
    """`coefficient`: 0 (one distribution) to 1."""

    coefficient: float
    p: float


@dataclass(frozen=True)
class Far:
    """How near a sample of each has its nearest released neighbour.

    Attributes:
        limit: released items have a released neighbour at least this near, but for `FAR_SHARE` of them.
        new_share, released_share: that have not.
        farthest: int64, rows of the new items that have not, the farthest first.
        farthest_similarities: float32, theirs.
        new, released: float32, all similarities of the samples.
    """

    limit: float
    new_share: float
    released_share: float
    p: float
    farthest: NDArray[np.int64]
    farthest_similarities: Vectors
    new: Vectors
    released: Vectors


@dataclass(frozen=True)
class Drift:
    """One kind of content, new against released.

    Attributes:
        n_new, n_released: items that have a vector.
        missing_new, missing_released: shares of items without this content, and the p-value of there being more.
        shift, energy, far: None where there are fewer than `FEWEST_NEW` to compare.
    """

    n_new: int
    n_released: int
    missing_new: float
    missing_released: float
    missing_p: float
    shift: Shift | None = None
    energy: Energy | None = None
    far: Far | None = None

    @property
    def alarms(self) -> tuple[str, ...]:
        """Names of the tests that say the batch is different."""
        found = {"missing": self.missing_p}
        if self.energy is not None and self.far is not None:
            found |= {"energy": self.energy.p, "far": self.far.p}
        return tuple(name for name, p in found.items() if p < ALPHA / 3)


def is_changed(vectors: AnyVectors, released: AnyVectors) -> Mask:
    """Which rows of [R, D] hold another content than in the release; bool [R]."""
    changed = np.empty(len(vectors), dtype=np.bool_)
    for start in range(0, len(vectors), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        off = np.abs(vectors[chunk].astype(np.float32) - released[chunk].astype(np.float32))
        changed[chunk] = off.max(axis=1, initial=0.0) > _SAME
    return changed


def measure_drift(
    new: AnyVectors, new_present: Mask, released: AnyVectors, released_present: Mask, *, seed: int = 0
) -> Drift:
    """Compare new items with a release.

    Args:
        new: [n, D], rows of new and changed items, and `new_present` bool [n].
        released: [N, D] (it may be memory-mapped), and `released_present` bool [N].
        seed: of the samples and permutations.
    """
    rng = np.random.default_rng(seed)
    n_missing, n_missing_released = int((~new_present).sum()), int((~released_present).sum())
    drift = Drift(
        n_new=int(new_present.sum()),
        n_released=int(released_present.sum()),
        missing_new=n_missing / max(len(new_present), 1),
        missing_released=n_missing_released / max(len(released_present), 1),
        missing_p=fisher_greater(n_missing, len(new_present), n_missing_released, len(released_present)),
    )
    if min(drift.n_new, drift.n_released) < FEWEST_NEW:
        return drift
    new_rows, base_rows = np.flatnonzero(new_present), np.flatnonzero(released_present)
    return replace(
        drift,
        shift=_shift(new, new_rows, released, base_rows),
        energy=_energy(new, new_rows, released, base_rows, rng),
        far=_far(new, new_rows, released, base_rows, rng),
    )


def _shift(new: AnyVectors, new_rows: Rows, released: AnyVectors, base_rows: Rows) -> Shift:
    """Distance of the means, and what a random batch would have: RMS x sqrt(1/n + 1/N)."""
    mean_new, _ = _moments(new, new_rows)
    mean_base, square_base = _moments(released, base_rows)
    rms = math.sqrt(max(square_base - float(mean_base @ mean_base), 1e-12))
    by_chance = math.sqrt(1 / len(new_rows) + 1 / len(base_rows))
    return Shift(float(np.linalg.norm(mean_new - mean_base)) / rms, by_chance)


def _moments(vectors: AnyVectors, rows: Rows) -> tuple[NDArray[np.float64], float]:
    total, square = np.zeros(vectors.shape[1]), 0.0
    for start in range(0, len(rows), _CHUNK):
        chunk = vectors[rows[start : start + _CHUNK]].astype(np.float64)
        total += chunk.sum(axis=0)
        square += float((chunk * chunk).sum())
    return total / len(rows), square / len(rows)


def _energy(new: AnyVectors, new_rows: Rows, released: AnyVectors, base_rows: Rows, rng: np.random.Generator) -> Energy:
    a, b = _sampled(new, new_rows, _ENERGY_SAMPLE, rng), _sampled(released, base_rows, _ENERGY_SAMPLE, rng)
    n, m = len(a), len(b)
    both = np.concatenate([a, b])
    squares = (both * both).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * both @ both.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    belongs = np.zeros((n + m, N_PERMUTATIONS + 1), dtype=np.float32)
    belongs[:n, 0] = 1.0
    for column in range(1, N_PERMUTATIONS + 1):
        belongs[rng.permutation(n + m)[:n], column] = 1.0
    to_a = distances @ belongs
    within_a = (belongs * to_a).sum(axis=0, dtype=np.float64)
    across = to_a.sum(axis=0, dtype=np.float64) - within_a
    within_b = float(distances.sum(dtype=np.float64)) - within_a - 2 * across
    mean_across = across / (n * m)
    found = 2 * mean_across - within_a / (n * (n - 1)) - within_b / (m * (m - 1))
    p = (1 + int((found[1:] >= found[0]).sum())) / (1 + N_PERMUTATIONS)
    return Energy(max(0.0, float(found[0] / max(2 * mean_across[0], 1e-12))), p)


def _far(new: AnyVectors, new_rows: Rows, released: AnyVectors, base_rows: Rows, rng: np.random.Generator) -> Far:
    asked_new, asked_base = _choose(new_rows, _FAR_SAMPLE, rng), _choose(base_rows, _FAR_SAMPLE, rng)
    own = _nearest_released(released[asked_base].astype(np.float32), released, base_rows, asked_base)
    found = _nearest_released(new[asked_new].astype(np.float32), released, base_rows, None)
    limit = float(np.quantile(own, FAR_SHARE))
    far_new, far_own = int((found < limit).sum()), int((own < limit).sum())
    order = np.argsort(found, kind="stable")[:far_new]
    return Far(
        limit=limit,
        new_share=far_new / len(found),
        released_share=far_own / len(own),
        p=fisher_greater(far_new, len(found), far_own, len(own)),
        farthest=asked_new[order],
        farthest_similarities=found[order],
        new=found,
        released=own,
    )


def _nearest_released(queries: Vectors, released: AnyVectors, rows: Rows, own: Rows | None) -> Vectors:
    """float32 [B], the cosine to the nearest released vector, other than the query's own row."""
    best = np.full(len(queries), -1.0, dtype=np.float32)
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        similarities = queries @ released[chunk].astype(np.float32).T
        if own is not None:
            at = np.searchsorted(chunk, own)
            inside = (at < len(chunk)) & (chunk[np.minimum(at, len(chunk) - 1)] == own)
            similarities[np.flatnonzero(inside), at[inside]] = -1.0
        np.maximum(best, similarities.max(axis=1), out=best)
    return best


def _choose(rows: Rows, n: int, rng: np.random.Generator) -> Rows:
    return rows if len(rows) <= n else np.sort(rng.choice(rows, n, replace=False))


def _sampled(vectors: AnyVectors, rows: Rows, n: int, rng: np.random.Generator) -> Vectors:
    sample: Vectors = vectors[_choose(rows, n, rng)].astype(np.float32)
    return sample


def fisher_greater(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Fisher's exact test: the chance of so many hits or more in the first of two samples with one share of hits.

    1 where the first sample's share is not the larger one: whoever asks wants small p-values only.
    """
    if hits * other_n <= other_hits * n:
        return 1.0
    total, all_hits = n + other_n, hits + other_hits
    whole = _log_choose(total, n)
    chance = 0.0
    for k in range(hits, min(all_hits, n) + 1):  # beyond the expected number, so the terms fall
        term = math.exp(_log_choose(all_hits, k) + _log_choose(total - all_hits, n - k) - whole)
        chance += term
        if term <= chance * 1e-12:
            break
    return min(1.0, chance)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
