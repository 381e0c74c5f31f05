"""Active learning: which items and tags are worth a person's time.

    score = doubt * worth                        doubt = 1 - (1 - entropy) * (1 - spread)
    entropy: of the confidence, bent so that the tag's threshold is its middle, in bits
    spread: the largest difference between the confidences that heads give
    worth: from `LEAST_WORTH`, with the logarithm of how often the item is seen: an error on a popular one costs more

Each tag gets the same share. Of a tag's best, each next one is the one with the largest score times its distance from
the nearest that is chosen already (greedy k-center; Sener and Savarese, "Active Learning for Convolutional Neural
Networks: A Core-Set Approach", 2018): a batch is not ten copies of one picture.

A share is drawn at random from all the rest, so that figures on what people say can be made unbiased: each row is
weighed by one over its propensity (Horvitz and Thompson, 1952).

Letters: N items, C tags, R pairs of an item and a tag that have a score, J judged items, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.tagging.heads import Threshold
from embeddings.tagging.tag_tree import among, distinct

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

REVIEW_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        ("confidence", pa.float32()),  # null: the model says no, and not how surely
        pa.field("propensity", pa.float64(), nullable=False),  # that it is asked: 1 = chosen for what it is
        pa.field("why", pa.string(), nullable=False),
        pa.field("selected_at", pa.timestamp("ms", "UTC"), nullable=False),
    ]
)
RANDOM_SHARE = 0.1
LEAST_WORTH = 0.25
MUCH_SPREAD = 0.3
_POOL_FACTOR, _SMALLEST_POOL = 8, 64


@dataclass(frozen=True)
class Pool:
    """What may be asked: the judged items times the tags, but for what people decided.

    Attributes:
        tags: `C` ids.
        judged: int64 [J], item rows, ascending.
        item, tag: int64 [R], places.
        confidence: float32 [R], of yes.
        spread: float32 [R], the largest difference between heads; 0 where one is alone.
        known: int64, `item * C + tag` of what people decided, ascending.
    """

    tags: tuple[str, ...]
    judged: Rows
    item: Rows
    tag: Rows
    confidence: Floats
    spread: Floats
    known: Rows

    @property
    def keys(self) -> Rows:
        return self.item * len(self.tags) + self.tag

    @staticmethod
    def dense(tags: Sequence[str], confidences: Floats, known: Mask | None, others: Sequence[Floats]) -> Pool:
        """Of float32 [N, C], NaN in rows that were not looked at."""
        item, tag = np.nonzero(np.isfinite(confidences) & (True if known is None else ~known))
        told = np.stack([each[item, tag] for each in (confidences, *others)])
        spread = np.nan_to_num(np.nanmax(told, axis=0) - np.nanmin(told, axis=0))
        decided = np.flatnonzero(known) if known is not None else np.empty(0, np.int64)
        judged = np.flatnonzero(np.isfinite(confidences).any(axis=1))
        return Pool(tuple(tags), judged, item, tag, confidences[item, tag], spread.astype(np.float32), decided)


def select(
    item_ids: Sequence[str],
    confidences: Floats,
    thresholds: Mapping[str, Threshold],
    value: NDArray[np.floating] | Rows,
    vectors: NDArray[np.floating] | None,
    n: int,
    *,
    seed: int,
    now: datetime,
    known: Mask | None = None,
    others: Sequence[Floats] = (),
    random_share: float = RANDOM_SHARE,
) -> pa.Table:
    """`REVIEW_SCHEMA`: at most `n` pairs, tag by tag, the most urgent first.

    Args:
        confidences: float32 [N, C] in the order of `thresholds`; NaN where the head did not look.
        value: [N], how often each item is seen or interacted with.
        vectors: float32 [N, D], L2-normalised, zeros where there is none; None: without regard to likeness.
        seed: of the random share.
        known: bool [N, C], what people decided already.
        others: confidences of other heads, as the first ones.
        random_share: of the `n` pairs that are drawn at random.
    """
    pool = Pool.dense(tuple(thresholds), confidences, known, others)
    return select_of(pool, item_ids, thresholds, value, vectors, n, seed=seed, now=now, random_share=random_share)


def select_of(
    pool: Pool,
    item_ids: Sequence[str],
    thresholds: Mapping[str, Threshold],
    value: NDArray[np.floating] | Rows,
    vectors: NDArray[np.floating] | None,
    n: int,
    *,
    seed: int,
    now: datetime,
    random_share: float = RANDOM_SHARE,
) -> pa.Table:
    """As `select`, of a pool."""
    middles = np.array([_middle(thresholds[tag]) for tag in pool.tags], np.float32)
    n_random = round(n * random_share)
    doubt = 1 - (1 - entropy(pool.confidence, middles[pool.tag])) * (1 - pool.spread)
    score = doubt * worth(value)[pool.item]
    chosen = _chosen(pool, score, vectors, n - n_random)
    keys, propensity = _drawn(pool, pool.keys[chosen], n_random, np.random.default_rng(seed))
    why = [_why(pool, row, middles, value) for row in chosen.tolist()]
    told = np.concatenate([pool.confidence[chosen], _confidences(keys, pool)])
    items, tags = np.divmod(np.concatenate([pool.keys[chosen], keys]), max(len(pool.tags), 1))
    return pa.table(
        {
            "item_id": [item_ids[row] for row in items.tolist()],
            "tag": [pool.tags[place] for place in tags.tolist()],
            "confidence": pa.array(told.astype(np.float32), from_pandas=True),
            "propensity": [1.0] * len(chosen) + [propensity] * len(keys),
            "why": [*why, *["drawn at random"] * len(keys)],
            "selected_at": pa.repeat(pa.scalar(now, pa.timestamp("ms", "UTC")), len(items)),
        },
        schema=REVIEW_SCHEMA,
    )


def entropy(confidence: Floats, middle: Floats) -> Floats:
    """float32 [R] in 0..1: 1 at the middle, 0 at the ends."""
    below = 0.5 * confidence / middle
    above = 0.5 + 0.5 * (confidence - middle) / (1 - middle)
    p = np.clip(np.where(confidence < middle, below, above), 1e-7, 1 - 1e-7)
    bits: Floats = (-p * np.log2(p) - (1 - p) * np.log2(1 - p)).astype(np.float32)
    return bits


def worth(value: NDArray[np.floating] | Rows) -> Floats:
    """float32 [N] in `LEAST_WORTH`..1."""
    seen = np.log1p(np.maximum(np.asarray(value, np.float64), 0))
    share = seen / max(float(seen.max(initial=0)), 1e-9)
    return (LEAST_WORTH + (1 - LEAST_WORTH) * share).astype(np.float32)


def _middle(threshold: Threshold) -> float:
    """A tag that never counts is as doubtful as one with a threshold of one half."""
    return min(max(threshold.yes, 0.01), 0.99) if threshold.yes <= 1 else 0.5


def _chosen(pool: Pool, score: Floats, vectors: NDArray[np.floating] | None, n: int) -> Rows:
    """int64: places in the pool."""
    by_tag = np.argsort(pool.tag, kind="stable")
    starts = np.searchsorted(pool.tag[by_tag], np.arange(len(pool.tags) + 1))
    found = []
    for tag, quota in enumerate(_shares(np.diff(starts), n)):
        rows = by_tag[starts[tag] : starts[tag + 1]]
        best = rows[np.argsort(-score[rows], kind="stable")][: max(_POOL_FACTOR * quota, _SMALLEST_POOL)]
        there = None if vectors is None else vectors[pool.item[best]].astype(np.float32)
        found.append(best[_spread_out(score[best], there, quota)])
    return np.concatenate([np.empty(0, np.int64), *found])


def _shares(available: Rows, n: int) -> list[int]:
    """`n` in equal shares, where some can take less than theirs; what does not divide goes to the first ones."""
    shares = np.zeros(len(available), np.int64)
    while n > 0 and (open_ := np.flatnonzero(shares < available)).size:
        each = max(n // len(open_), 1)
        taking = np.minimum(available[open_] - shares[open_], each)[:n]
        shares[open_[: len(taking)]] += taking
        n -= int(taking.sum())
    return [int(each) for each in shares]


def _spread_out(score: Floats, vectors: Floats | None, n: int) -> Rows:
    """Places of `n` of these, which come by falling score."""
    if vectors is None or n == 0:
        return np.arange(n)
    distance = np.ones(len(score), np.float32)
    left = score.copy()
    order = []
    for _ in range(n):
        best = int(np.argmax(left * distance))
        if left[best] < 0:
            best = int(np.argmax(left))
        order.append(best)
        left[best] = -1
        # Copies of what is chosen come last, by their scores, and not never.
        distance = np.minimum(distance, np.maximum(1 - vectors @ vectors[best], 1e-6))
    return np.array(order, np.int64)


def _drawn(pool: Pool, chosen: Rows, n: int, rng: np.random.Generator) -> tuple[Rows, float]:
    """`n` distinct keys of all that is left, uniformly, and each one's probability to be among them."""
    n_tags = len(pool.tags)
    decided = distinct(np.concatenate([chosen, pool.known]))
    decided = decided[among(decided // max(n_tags, 1), pool.judged)]
    n_left = len(pool.judged) * n_tags - len(decided)
    n = min(n, n_left)
    if n <= 0:
        return np.empty(0, np.int64), 0.0
    if n_left <= 4 * n:
        every = (pool.judged[:, None] * n_tags + np.arange(n_tags)).reshape(-1)
        return rng.permutation(every[~among(every, decided)])[:n], n / n_left
    drawn: dict[int, None] = {}
    while len(drawn) < n:
        keys = pool.judged[rng.integers(len(pool.judged), size=2 * n)] * n_tags + rng.integers(n_tags, size=2 * n)
        drawn.update(dict.fromkeys(keys[~among(keys, decided)].tolist()))
    return np.array(list(drawn)[:n], np.int64), n / n_left


def _confidences(keys: Rows, pool: Pool) -> Floats:
    """float32: of each key, NaN where the pool has none."""
    out = np.full(len(keys), np.nan, np.float32)
    if len(pool.item):
        order = np.argsort(pool.keys, kind="stable")
        at = order[np.minimum(np.searchsorted(pool.keys[order], keys), len(order) - 1)]
        found = pool.keys[at] == keys
        out[found] = pool.confidence[at[found]]
    return out


def _why(pool: Pool, row: int, middles: Floats, value: NDArray[np.floating] | Rows) -> str:
    confidence, middle = float(pool.confidence[row]), float(middles[pool.tag[row]])
    side = "above" if confidence >= middle else "below"
    parts = [f"{abs(confidence - middle):.2f} {side} its threshold of {middle:.2f}"]
    if pool.spread[row] >= MUCH_SPREAD:
        parts.append(f"heads differ by {float(pool.spread[row]):.2f}")
    if (times := int(value[pool.item[row]])) > 0:
        parts.append(f"seen {times:,} times")
    return "; ".join(parts)
