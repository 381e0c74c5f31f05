"""What follows what: a signal that needs no training, as the nearest neighbours of each item.

Letters: N items, E interactions, K neighbours kept, C candidates, T length of a history, B histories.

    mass[i, j]   = sum over pairs (i, then j within `window` steps) of decay ** (steps - 1)
    weight[i, j] = mass[i, j] / (out[i] ** row_power * (in[j] + shrinkage) ** popularity_power)
    score[j]     = sum over the latest interactions h (k = 0 is the last) of history_decay ** k * weight[h, j]

With row_power 0.5 an item that people take in many ways votes more than a rare one, though less than by its count;
with row_power 1 this is the first-order Markov chain of Rendle et al., "Factorizing personalized Markov chains", WWW
2010, smoothed over `window` steps. Data without order counts pairs both ways and without decay, which is item-kNN.
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

HISTORY_WINDOW = 10
HISTORY_DECAY = 0.8
MAX_PAIRS_PER_BLOCK = 8_000_000

Weights = NDArray[np.float32]


class TransitionConfig(Config):
    """How transitions are counted and normalised; the formula is in the module's docstring.

    Attributes:
        window: how many steps later an interaction still counts.
        unordered_window: the same for data without order, in both directions.
        decay: weight of each further step.
        row_power: how much an item's own count is divided out.
        popularity_power: how much the neighbour's count is divided out.
        shrinkage: interactions added to the neighbour's count, so that a single pair is no certainty.
        n_neighbours: `K`, kept for each item.
    """

    window: Annotated[int, Field(gt=0)] = 10
    unordered_window: Annotated[int, Field(gt=0)] = 100
    decay: Annotated[float, Field(gt=0, le=1)] = 0.8
    row_power: Annotated[float, Field(ge=0, le=1)] = 0.5
    popularity_power: Annotated[float, Field(ge=0, le=1)] = 0.25
    shrinkage: Annotated[float, Field(ge=0)] = 5.0
    n_neighbours: Annotated[int, Field(gt=0)] = 200


@dataclass(frozen=True)
class Neighbours:
    """The `K` items that most follow each item.

    Attributes:
        rows: int32 [N, K], by falling weight (ties by row); -1 fills a list that is shorter than K.
        weights: float32 [N, K], 0 where `rows` is -1.
        history_window: how many of the latest interactions vote.
        history_decay: weight of each further step back.
    """

    rows: NDArray[np.int32]
    weights: Weights
    history_window: int = HISTORY_WINDOW
    history_decay: float = HISTORY_DECAY

    @property
    def n_items(self) -> int:
        return len(self.rows)

    def votes(self, history: Rows) -> Votes:
        """All neighbours of the latest interactions and their scores.

        `history` is int64 [T], oldest first; rows outside 0..N-1 (newer than these neighbours) do not vote, but
        keep their place.
        """
        latest = np.asarray(history, dtype=np.int64)[::-1][: self.history_window]
        decay = (self.history_decay ** np.arange(len(latest))).astype(np.float32)
        known = np.flatnonzero((latest >= 0) & (latest < self.n_items))
        voters = latest[known]
        rows = self.rows[voters].ravel()
        weights = (self.weights[voters] * decay[known, None]).ravel()
        is_one = rows >= 0
        if not is_one.all():
            rows, weights = rows[is_one], weights[is_one]
            places = np.repeat(known, self.rows.shape[1])[is_one]
        else:
            places = np.repeat(known, self.rows.shape[1])
        return _counted(rows, weights, places, latest)

    def score(self, history: Rows, candidates: Rows) -> Weights:
        """float32 [C], the transition score of each candidate row; 0 for what no item of the history leads to."""
        return self.votes(history).of(candidates)[0]

    def score_all(self, history: Rows, n_items: int | None = None) -> Weights:
        """float32 [N], the score of every item; `n_items` may count newer items, which get 0."""
        scores = np.zeros(n_items or self.n_items, np.float32)
        votes = self.votes(history)
        scores[votes.rows] = votes.scores
        return scores

    def top_rows(self, history: Rows, k: int) -> Rows:
        """int64 [k'], the best rows for a history, best first (ties by row), k' <= k; the history itself may be in."""
        return self.votes(history).top_rows(k)


@dataclass(frozen=True)
class Votes:
    """What follows one history, `V` items.

    Attributes:
        rows: int64 [V], each once and ascending.
        scores: float32 [V], the transition score of each.
        voters: int32 [V], the row of the history's item that gave the most of it.
    """

    rows: Rows
    scores: Weights
    voters: NDArray[np.int32]

    def of(self, candidates: Rows) -> tuple[Weights, NDArray[np.int32]]:
        """float32 [C], the transition score of each candidate row, and int32 [C], the row of the history's item that
        leads most to it; 0 and -1 for what no item of the history leads to."""
        if not len(self.rows):
            return np.zeros(len(candidates), np.float32), np.full(len(candidates), -1, np.int32)
        at = np.searchsorted(self.rows, candidates)
        at[at == len(self.rows)] = 0
        found = self.rows[at] == candidates
        return np.where(found, self.scores[at], np.float32(0)), np.where(found, self.voters[at], np.int32(-1))

    def top_rows(self, k: int) -> Rows:
        """int64 [k'], the best rows, best first (ties by row), k' <= k."""
        return self.rows[np.argsort(-self.scores, kind="stable")][:k]


def _counted(rows: NDArray[np.int32], weights: Weights, places: Rows, latest: Rows) -> Votes:
    """Add up the weights by row. `places` int64 [V'] are those of the voters in `latest` int64 [T']."""
    order = np.argsort(rows, kind="stable")
    rows, weights, places = rows[order], weights[order], places[order]
    is_first = np.empty(len(rows), np.bool_)
    is_first[:1] = True
    np.not_equal(rows[1:], rows[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    if not len(starts):
        return Votes(rows.astype(np.int64), weights, rows)
    scores = np.add.reduceat(weights, starts, dtype=np.float64).astype(np.float32)
    most = np.maximum.reduceat(weights, starts)
    group_of = np.cumsum(is_first) - 1
    gave = weights == most[group_of]
    # Of several that gave as much, the latest: places count from the latest on, and are ascending in each group.
    groups = group_of[gave]
    voters = np.empty(len(starts), np.int32)
    voters[groups[::-1]] = latest[places[gave]][::-1]
    # As wide as the candidates' rows: a look-up would else convert all of them each time.
    return Votes(rows[starts].astype(np.int64), scores, voters)


def fit_transitions(sequences: Sequences, n_items: int, config: TransitionConfig | None = None) -> Neighbours:
    """Count and normalise transitions, and keep the best `K` of each item.

    Memory is bounded: pairs are counted for one block of items after another, `MAX_PAIRS_PER_BLOCK` at a time
    (unless one item alone has more). Same data, same bytes.
    """
    config = config or TransitionConfig()
    out_mass, in_mass = _masses(sequences, n_items, config)
    row_scale = np.where(out_mass > 0, np.maximum(out_mass, 1e-9) ** -config.row_power, 0.0)
    column_scale = np.where(in_mass > 0, np.maximum(in_mass + config.shrinkage, 1e-9) ** -config.popularity_power, 0.0)
    rows = np.full((n_items, config.n_neighbours), -1, np.int32)
    weights = np.zeros((n_items, config.n_neighbours), np.float32)
    for sources, targets, mass in _pair_blocks(sequences, n_items, config):
        scaled = mass * row_scale[sources] * column_scale[targets]
        order = np.lexsort((targets, -scaled, sources))
        sources, targets, scaled = sources[order], targets[order], scaled[order]
        place = np.arange(len(sources)) - np.searchsorted(sources, sources, side="left")
        kept = place < config.n_neighbours
        rows[sources[kept], place[kept]] = targets[kept]
        weights[sources[kept], place[kept]] = scaled[kept]
    if sequences.ordered:
        return Neighbours(rows, weights)
    return Neighbours(rows, weights, history_window=config.unordered_window, history_decay=1.0)


def _steps(sequences: Sequences, config: TransitionConfig) -> list[tuple[int, float]]:
    """Signed steps from an interaction to the ones it is paired with, and the weight of each."""
    if sequences.ordered:
        return [(step, config.decay ** (step - 1)) for step in range(1, config.window + 1)]
    return [(sign * step, 1.0) for step in range(1, config.unordered_window + 1) for sign in (1, -1)]


def _masses(
    sequences: Sequences, n_items: int, config: TransitionConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64 [N] twice: all weight that leaves each item, and all that arrives at it."""
    before = np.arange(sequences.n_events) - sequences.offsets[sequences.user_rows]
    after = sequences.lengths[sequences.user_rows] - 1 - before
    steps = _steps(sequences, config)
    reach = np.concatenate([[0.0], np.cumsum([weight for step, weight in steps if step > 0])])
    outgoing, arriving = reach[np.minimum(after, len(reach) - 1)], reach[np.minimum(before, len(reach) - 1)]
    if not sequences.ordered:
        outgoing = arriving = outgoing + arriving
    rows = sequences.item_rows
    return _sums(rows, outgoing, n_items), _sums(rows, arriving, n_items)


def _sums(rows: Rows, weights: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """float64 [n], the weights added up by row."""
    return np.bincount(rows, weights, minlength=n).astype(np.float64)


def _pair_blocks(
    sequences: Sequences, n_items: int, config: TransitionConfig
) -> Iterator[tuple[Rows, Rows, NDArray[np.float64]]]:
    """Distinct pairs of different items by ascending source: sources int64 [P], targets int64 [P], mass float64 [P]."""
    steps = _steps(sequences, config)
    by_item = np.argsort(sequences.item_rows, kind="stable")
    ends = np.cumsum(np.bincount(sequences.item_rows, minlength=n_items))
    step_events = max(1, MAX_PAIRS_PER_BLOCK // len(steps))
    first = 0
    while first < len(by_item):
        # Whole items only: the last item that ends within the budget, or the one item that exceeds it.
        last_item = max(
            int(np.searchsorted(ends, first + step_events, side="right")) - 1,
            int(np.searchsorted(ends, first, side="right")),
        )
        positions = by_item[first : ends[last_item]]
        first = int(ends[last_item])
        yield _pairs_of(sequences, positions, steps, n_items)


def _pairs_of(
    sequences: Sequences, positions: Rows, steps: list[tuple[int, float]], n_items: int
) -> tuple[Rows, Rows, NDArray[np.float64]]:
    users = np.searchsorted(sequences.offsets, positions, side="right") - 1
    starts, stops = sequences.offsets[users], sequences.offsets[users + 1]
    keys: list[Rows] = []
    weights: list[NDArray[np.float64]] = []
    for step, weight in steps:
        others = positions + step
        within = (others >= starts) & (others < stops)
        sources, targets = sequences.item_rows[positions[within]], sequences.item_rows[others[within]]
        keys.append((sources * n_items + targets)[sources != targets])
        weights.append(np.full(len(keys[-1]), weight))
    unique, at = np.unique(np.concatenate(keys), return_inverse=True)
    return unique // n_items, unique % n_items, _sums(at, np.concatenate(weights), len(unique))
