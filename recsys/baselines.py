"""What every model must beat: popularity, and item-kNN. Numpy only.

Letters: U users, N items, E interactions, B users of a batch, K neighbours of an item.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.dataset import Rows, Sequences

Scores = NDArray[np.float32]

MAX_BLOCK_CELLS = 1 << 22
MAX_PAIRS_AT_ONCE = 1 << 22


class Popularity:
    """The same order for everybody: most interactions first, among equals the lower row.

    A definite order, as a served list has one: the scores hold no ties.

    Attributes:
        counts: int64 [N], interactions of each item.
    """

    def __init__(self, counts: Rows) -> None:
        self.counts = counts
        descending = np.argsort(-counts, kind="stable")
        self._score_of_item = np.empty(len(counts), dtype=np.float32)
        self._score_of_item[descending] = np.arange(len(counts), 0, -1)

    @classmethod
    def fit(cls, train: Sequences, n_items: int) -> Popularity:
        return cls(train.item_counts(n_items))

    def scores(self, history: Sequences, user_rows: Rows) -> Scores:
        """float32 [B, N], N for the first item down to 1 for the last; `history` does not matter."""
        return np.broadcast_to(self._score_of_item, (len(user_rows), len(self.counts)))


class ItemKnnConfig(Config):
    """How item-kNN is fitted.

    Attributes:
        n_neighbors: neighbours kept for each item.
        shrinkage: added to the cosine's denominator, so that a few co-occurrences do not look certain.
        max_user_items: of a longer history only the latest items count, because pairs grow with its square.
    """

    n_neighbors: Annotated[int, Field(gt=0)] = 20
    shrinkage: Annotated[float, Field(ge=0)] = 0.0
    max_user_items: Annotated[int, Field(gt=0)] = 5_000


class ItemKnn:
    """Items that the same users chose: cosine between the items' columns of the user x item matrix (0 or 1).

    `similarity(i, j) = |users of both| / (sqrt(|users of i| |users of j|) + shrinkage)`; an item's value for a user is
    the sum over the history's items whose K nearest neighbours hold it. Deshpande and Karypis, "Item-based top-N
    recommendation algorithms", TOIS 2004.

    Attributes:
        neighbors: int32 [N, K], nearest first; where an item has fewer, the similarity is 0.
        similarities: float32 [N, K].
    """

    def __init__(self, neighbors: NDArray[np.int32], similarities: Scores) -> None:
        self.neighbors = neighbors
        self.similarities = similarities

    @classmethod
    def fit(cls, train: Sequences, n_items: int, config: ItemKnnConfig | None = None) -> ItemKnn:
        """Count co-occurrence block by block of items: some 200 MB beside the neighbours themselves, whatever N."""
        config = config or ItemKnnConfig()
        chosen = _distinct(_latest(train, config.max_user_items), n_items)
        norms = np.sqrt(np.bincount(chosen.items, minlength=n_items))
        k = min(config.n_neighbors, max(n_items - 1, 0))
        neighbors = np.zeros((n_items, k), dtype=np.int32)
        similarities = np.zeros((n_items, k), dtype=np.float32)
        step = max(1, MAX_BLOCK_CELLS // max(n_items, 1))
        for start in range(0, n_items if k else 0, step):
            block = slice(start, min(start + step, n_items))
            counts = _co_occurrence(chosen, block, n_items)
            cosine = _cosine(counts, norms, block, config.shrinkage)
            neighbors[block], similarities[block] = _nearest(cosine, k)
        return cls(neighbors, similarities)

    def scores(self, history: Sequences, user_rows: Rows) -> Scores:
        """float32 [B, N], the larger the better; 0 for what no item of the user's history has as a neighbour."""
        n_items = len(self.neighbors)
        scores = np.zeros((len(user_rows), n_items), dtype=np.float32)
        for place, user_row in enumerate(user_rows):
            items = np.unique(history.item_rows[history.of(int(user_row))])
            near, similarity = self.neighbors[items].ravel(), self.similarities[items].ravel()
            scores[place] = np.bincount(near, weights=similarity, minlength=n_items)
        return scores


@dataclass(frozen=True)
class _Chosen:
    """Distinct (user, item) pairs, sorted by user; and the users of each item."""

    items: Rows
    user_offsets: Rows
    users_by_item: Rows
    item_offsets: Rows


def _latest(train: Sequences, max_user_items: int) -> Sequences:
    from_end = train.offsets[1:][train.user_rows] - 1 - np.arange(train.n_events)
    return train.take(from_end < max_user_items)


def _distinct(train: Sequences, n_items: int) -> _Chosen:
    users, items = np.divmod(np.unique(train.user_rows * n_items + train.item_rows), max(n_items, 1))
    by_item = np.argsort(items, kind="stable")
    return _Chosen(
        items=items,
        user_offsets=np.concatenate([[0], np.cumsum(np.bincount(users, minlength=train.n_users))]),
        users_by_item=users[by_item],
        item_offsets=np.concatenate([[0], np.cumsum(np.bincount(items, minlength=n_items))]),
    )


def _co_occurrence(chosen: _Chosen, block: slice, n_items: int) -> Rows:
    """Users of both items, for the block's items against all: int64 [block, N]."""
    n_block = block.stop - block.start
    counts = np.zeros(n_block * n_items, dtype=np.int64)
    entries = slice(int(chosen.item_offsets[block.start]), int(chosen.item_offsets[block.stop]))
    users = chosen.users_by_item[entries]
    of_block = np.repeat(np.arange(n_block), np.diff(chosen.item_offsets[block.start : block.stop + 1]))
    starts = chosen.user_offsets[users]
    lengths = chosen.user_offsets[users + 1] - starts
    for part in _parts(lengths):
        n_pairs = lengths[part]
        ends = np.cumsum(n_pairs)
        at = np.arange(int(ends[-1])) + np.repeat(starts[part] - (ends - n_pairs), n_pairs)
        keys = np.repeat(of_block[part] * n_items, n_pairs) + chosen.items[at]
        counts += np.bincount(keys, minlength=len(counts))
    return counts.reshape(n_block, n_items)


def _parts(lengths: Rows) -> Iterator[slice]:
    """Consecutive slices whose lengths add up to about `MAX_PAIRS_AT_ONCE`."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start] - lengths[start])
        stop = max(start + 1, int(np.searchsorted(ends, before + MAX_PAIRS_AT_ONCE, side="right")))
        yield slice(start, stop)
        start = stop


def _cosine(counts: Rows, norms: NDArray[np.float64], block: slice, shrinkage: float) -> Scores:
    """float32 [block, N]; 0 on the diagonal and for items that nobody chose."""
    denominator = np.outer(norms[block], norms).astype(np.float32) + np.float32(shrinkage)
    cosine = np.zeros_like(denominator)
    np.divide(counts, denominator, out=cosine, where=denominator > 0, casting="unsafe")
    diagonal = np.arange(block.start, block.stop)
    cosine[diagonal - block.start, diagonal] = 0.0
    return cosine


def _nearest(cosine: Scores, k: int) -> tuple[NDArray[np.int32], Scores]:
    """The k largest of each row, best first, ties by the lower row."""
    kept = np.sort(np.argpartition(-cosine, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(cosine, kept, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1).astype(np.int32), np.take_along_axis(values, order, axis=1)
