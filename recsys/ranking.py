"""One value a candidate, from the query's similarity, what follows the history, and popularity.

The formula and its weights are the release's `Blend` (`recsys.features.blend`), fitted on validation: training and
serving run the same code over the same features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.live import CatalogView
from recsys.ports import RankFeatures
from recsys.types import Candidates

Rows = NDArray[np.int64]
ALIKE = 0.25  # cosine of item vectors from which a history item is worth naming


def rank_features(history_rows: Rows, candidates: Candidates, catalog: CatalogView) -> RankFeatures:
    """The features of each candidate, arrays float32 [C]; an item that came after the release follows nothing yet."""
    transition = catalog.release.neighbours.score(history_rows, candidates.item_rows)
    return RankFeatures(candidates.similarity, transition, catalog.log_popularity[candidates.item_rows])


def value_parts(history_rows: Rows, candidates: Candidates, catalog: CatalogView) -> list[dict[str, float]]:
    """The terms of each candidate's value by name; they add up to it."""
    parts = catalog.release.schema.blend.parts(rank_features(history_rows, candidates, catalog))
    return [{name: float(values[at]) for name, values in parts.items()} for at in range(len(candidates))]


def reasons_of(history_rows: Rows, chosen: Candidates, catalog: CatalogView) -> list[tuple[str, ...]]:
    """Why each item is there, in words: the history item that leads to it, else what its source says."""
    follows = _strongest(_follow_weights(history_rows, chosen, catalog), least=0.0)
    alike = _strongest(_cosines(history_rows, chosen, catalog), least=ALIKE)
    reasons = []
    for at, row in enumerate(chosen.item_rows):
        mine = []
        if follows[at] >= 0:
            mine.append(f"often chosen with {catalog.title(int(history_rows[follows[at]]))}")
        elif alike[at] >= 0:
            mine.append(f"like {catalog.title(int(history_rows[alike[at]]))}")
        if row >= catalog.release.n_items:
            mine.append("new")
        reasons.append(tuple(mine) or ("popular",))
    return reasons


def _strongest(weights: NDArray[np.float32], least: float) -> Rows:
    """int64 [K]: the column of each row's largest weight, -1 where none is above `least`."""
    if not weights.shape[1]:
        return np.full(len(weights), -1, dtype=np.int64)
    best = weights.argmax(axis=1)
    return np.where(weights[np.arange(len(weights)), best] > least, best, -1)


def _follow_weights(history_rows: Rows, chosen: Candidates, catalog: CatalogView) -> NDArray[np.float32]:
    """float32 [K, T]: how strongly each history item leads to each chosen one; 0 where it is no neighbour."""
    n, neighbours = catalog.release.n_items, catalog.release.neighbours
    weights = np.zeros((len(chosen), len(history_rows)), dtype=np.float32)
    trained = np.flatnonzero(history_rows < n)
    rows, strengths = neighbours.rows[history_rows[trained]], neighbours.weights[history_rows[trained]]
    for at, item_row in enumerate(chosen.item_rows):
        weights[at, trained] = np.where(rows == item_row, strengths, 0).max(axis=1, initial=0)
    return weights


def _cosines(history_rows: Rows, chosen: Candidates, catalog: CatalogView) -> NDArray[np.float32]:
    """float32 [K, T], cosines of item vectors."""
    mine, theirs = catalog.vectors(chosen.item_rows), catalog.vectors(history_rows)
    lengths = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)[None, :]
    return np.asarray(mine @ theirs.T / np.maximum(lengths, 1e-12), dtype=np.float32)
