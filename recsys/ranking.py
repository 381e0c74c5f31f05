"""One value a candidate, from the query's similarity, what follows the history, and popularity.

The formula and its weights are the release's `Blend` (`recsys.features.blend`), fitted on validation: training and
serving run the same code over the same features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.features.rank_features import rank_feature_matrix, weighted_value
from recsys.live import CatalogView
from recsys.ports import RankFeatures
from recsys.types import Candidates

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
ALIKE = 0.25  # cosine of item vectors from which a history item is worth naming
SOURCE_SAYS = {
    "ann": "close to what you chose",
    "similar": "goes with what you chose",
    "recent": "new",
    "popular": "popular",
    "content": "like what you chose",
}


class RankConfig(Config):
    """How probabilities become one value, where the release carries a learned ranker; else its blend is the value.

    Attributes:
        value: what each of the ranker's probabilities is worth: `{ p_click = 1.0, p_buy = 5.0 }`; their weighted sum
            is the value. Empty = each counts once.
    """

    value: dict[str, float] = Field(default_factory=dict)


def rank_features(history_rows: Rows, candidates: Candidates, catalog: CatalogView) -> RankFeatures:
    """The features of each candidate, arrays float32 [C]; an item that came after the release follows nothing yet."""
    transition = catalog.release.neighbours.score(history_rows, candidates.item_rows)
    is_new = (candidates.item_rows >= catalog.release.n_items).astype(np.float32) if catalog.live_ids else None
    return RankFeatures(candidates.similarity, transition, catalog.log_popularity[candidates.item_rows], is_new)


def learned_value(
    features: RankFeatures, query_vector: Floats | None, catalog: CatalogView, config: RankConfig
) -> Floats | None:
    """float32 [C], the value by the release's ranker; None where it carries none and the blend is the value.

    Raises:
        ArtifactError: the ranker failed, or gave what is no number.
    """
    ranker = catalog.release.ranker
    if ranker is None:
        return None
    matrix = rank_feature_matrix(features, ranker.feature_names)
    return weighted_value(ranker.predict(matrix, query_vector if ranker.query_dim else None), config.value)


def value_parts(history_rows: Rows, candidates: Candidates, catalog: CatalogView) -> list[dict[str, float]]:
    """The terms of each candidate's value by name; they add up to it."""
    parts = catalog.release.schema.blend.parts(rank_features(history_rows, candidates, catalog))
    return [{name: float(values[at]) for name, values in parts.items()} for at in range(len(candidates))]


def reasons_of(
    history_rows: Rows, chosen: Candidates, sources: Sequence[str], catalog: CatalogView
) -> list[tuple[str, ...]]:
    """Why each item is there, in words, never none: the history item that leads to it, else what its source says."""
    latest, strengths = _follow_strengths(history_rows, chosen.item_rows, catalog)
    follows = _strongest(strengths, least=0.0)
    alike = _strongest(_cosines(history_rows, chosen, catalog), least=ALIKE)
    says = SOURCE_SAYS if len(history_rows) else {**SOURCE_SAYS, "ann": "suggested to begin with"}
    reasons = []
    for at, row in enumerate(chosen.item_rows):
        mine = []
        if follows[at] >= 0:
            mine.append(f"often chosen with {catalog.name(int(latest[follows[at]]))}")
        elif alike[at] >= 0:
            mine.append(f"like {catalog.name(int(history_rows[alike[at]]))}")
        if row >= catalog.release.n_items:
            mine.append("new")
        reasons.append(tuple(mine) or (says[sources[at]],))
    return reasons


def _strongest(weights: Floats, least: float) -> Rows:
    """int64 [C]: the column of each row's largest weight, -1 where none is above `least`."""
    if not weights.shape[1]:
        return np.full(len(weights), -1, dtype=np.int64)
    best = weights.argmax(axis=1)
    return np.where(weights[np.arange(len(weights)), best] > least, best, -1)


def _follow_strengths(history_rows: Rows, item_rows: Rows, catalog: CatalogView) -> tuple[Rows, Floats]:
    """The history rows that vote int64 [T'], latest first, and what each gives to each item, float32 [C, T'].

    A row's sum is the item's transition score (`Neighbours.score`).
    """
    neighbours = catalog.release.neighbours
    latest = history_rows[::-1][: neighbours.history_window]
    decay = (neighbours.history_decay ** np.arange(len(latest))).astype(np.float32)
    voters = np.flatnonzero(latest < neighbours.n_items)
    strengths = np.zeros((len(item_rows), len(latest)), dtype=np.float32)
    if not len(item_rows) or not len(voters):
        return latest, strengths
    rows = neighbours.rows[latest[voters]].astype(np.int64)
    given = neighbours.weights[latest[voters]] * decay[voters, None]
    ascending = np.argsort(item_rows, kind="stable")
    at = np.minimum(np.searchsorted(item_rows[ascending], rows), len(item_rows) - 1)
    voter, place = np.nonzero(item_rows[ascending][at] == rows)
    strengths[ascending[at[voter, place]], voters[voter]] = given[voter, place]
    return latest, strengths


def _cosines(history_rows: Rows, chosen: Candidates, catalog: CatalogView) -> Floats:
    """float32 [C, T], cosines of item vectors."""
    mine, theirs = catalog.vectors(chosen.item_rows), catalog.vectors(history_rows)
    lengths = np.linalg.norm(mine, axis=1)[:, None] * np.linalg.norm(theirs, axis=1)[None, :]
    return np.asarray(mine @ theirs.T / np.maximum(lengths, 1e-12), dtype=np.float32)
