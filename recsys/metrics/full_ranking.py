"""Ranks of targets among the whole catalogue, streamed over batches of users.

Letters: U users with targets, T targets, B users of a batch, N items, K places of a list, X seen pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import Rows, Sequences, Split
from recsys.metrics.ranking import NO_ITEM, rank_of_target

Scores = NDArray[np.float32]
ScoreBatch = Callable[[Rows], Scores]

MAX_BATCH_BYTES = 32 * 2**20


def distinct_users(split: Split) -> Rows:
    """The users that have a target, ascending, each once: int64 [U]."""
    return np.unique(split.target_users)


def rank_targets(score_batch: ScoreBatch, split: Split, n_items: int, *, list_length: int = 10) -> tuple[Rows, Rows]:
    """Rank each target among all items but the user's history (a target that is in the history stays).

    Args:
        score_batch: user rows int64 [B] to float32 [B, N], the larger the better; what a user already has need not
            be masked. Called once for each user, in batches of at most `MAX_BATCH_BYTES` of scores.
        split: what is known and what is to be found.
        n_items: N.
        list_length: K.

    Returns:
        The ranks of the targets, int64 [T] from 1 (see `ranking.rank_of_target` on ties), and what each of
        `distinct_users(split)` would see, int64 [U, min(K, N)], best first, padded with `NO_ITEM`.
    """
    users = distinct_users(split)
    ranks = np.empty(len(split.target_users), dtype=np.int64)
    lists = np.full((len(users), min(list_length, n_items)), NO_ITEM, dtype=np.int64)
    by_user = np.argsort(split.target_users, kind="stable")
    bounds = np.searchsorted(split.target_users[by_user], users, side="left")
    bounds = np.append(bounds, len(by_user))
    for batch in _batches(len(users), n_items):
        scores = np.asarray(score_batch(users[batch]), dtype=np.float32)
        if scores.shape != (batch.stop - batch.start, n_items):
            raise ValueError(
                f"score_batch gave shape {scores.shape} for {batch.stop - batch.start} users and {n_items} items"
            )
        seen = _seen(split.history, users[batch])
        lists[batch] = _top(scores, seen, lists.shape[1])
        targets = by_user[bounds[batch.start] : bounds[batch.stop]]
        places = np.searchsorted(users[batch], split.target_users[targets])
        ranks[targets] = _ranks(scores, places, split.target_items[targets], seen)
    return ranks, lists


def _batches(n_users: int, n_items: int) -> Iterator[slice]:
    step = max(1, MAX_BATCH_BYTES // (4 * max(n_items, 1)))
    for start in range(0, n_users, step):
        yield slice(start, min(start + step, n_users))


def _seen(history: Sequences, users: Rows) -> tuple[Rows, Rows]:
    """Places in the batch int64 [X] and item rows int64 [X] of all that these users already have."""
    starts, lengths = history.offsets[users], history.lengths[users]
    ends = np.cumsum(lengths)
    at = np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)
    return np.repeat(np.arange(len(users)), lengths), history.item_rows[at]


def _ranks(scores: Scores, places: Rows, items: Rows, seen: tuple[Rows, Rows]) -> Rows:
    """Ranks of targets where line `places[t]` of `scores` is the user's; a user may have several."""
    if np.array_equal(places, np.arange(len(scores))):
        return rank_of_target(scores, items, seen)
    ranks = np.empty(len(places), dtype=np.int64)
    first_of = np.searchsorted(places, np.arange(len(scores)))
    nth_of_user = np.arange(len(places)) - first_of[places]
    for nth in range(int(nth_of_user.max(initial=-1)) + 1):
        now = np.flatnonzero(nth_of_user == nth)
        line_of = np.full(len(scores), -1)
        line_of[places[now]] = np.arange(len(now))
        lines = line_of[seen[0]]
        ranks[now] = rank_of_target(scores[places[now]], items[now], (lines[lines >= 0], seen[1][lines >= 0]))
    return ranks


def _top(scores: Scores, seen: tuple[Rows, Rows], k: int) -> Rows:
    """The k best items a user does not have yet: int64 [B, k], `NO_ITEM` where there are fewer; NaN never shows."""
    open_scores = np.where(np.isnan(scores), -np.inf, scores)
    open_scores[seen] = -np.inf
    kept = np.sort(np.argpartition(-open_scores, max(k - 1, 0), axis=1)[:, :k], axis=1)
    values = np.take_along_axis(open_scores, kept, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    top = np.take_along_axis(kept, order, axis=1)
    top[np.isneginf(np.take_along_axis(values, order, axis=1))] = NO_ITEM
    return top.astype(np.int64)
