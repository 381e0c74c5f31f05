"""One value a candidate, from the query's similarity, what follows the history, and popularity.

The formula and its weights are the release's `Blend` (`recsys.features.blend`), fitted on validation: training and
serving run the same code over the same features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.budget import Budget
from recsys.config import Config
from recsys.errors import ArtifactError
from recsys.features.rank_features import TAG_AFFINITY, rank_feature_matrix, weighted_value
from recsys.features.tag_affinity import tag_affinity
from recsys.guard import AlwaysOn
from recsys.history import ALIKE_KEPT, History
from recsys.live import CatalogView
from recsys.ports import RankFeatures
from recsys.types import Candidates

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
ALIKE = 0.25  # cosine of item vectors from which a history item is worth naming
LOOKED_BACK = 10  # history items that an item may be said to be like
SOURCE_SAYS = {
    "pinned": "chosen by hand",
    "ann": "close to what you chose",
    "similar": "goes with what you chose",
    "category": "popular in what you look at",
    "trending": "taken a lot just now",
    "recent": "new",
    "explore": "worth a first look",
    "popular": "popular",
    "content": "like what you chose",
    "given": "asked for",
}


class RankConfig(Config):
    """How probabilities become one value, where the release carries a learned ranker; else its blend is the value.

    Attributes:
        value: what each of the ranker's probabilities is worth: `{ p_click = 1.0, p_buy = 5.0 }`; their weighted sum
            is the value. Without any each counts once.
    """

    value: dict[str, float] = Field(default_factory=dict)


def rank_features(history: History, candidates: Candidates, catalog: CatalogView) -> RankFeatures:
    """The features of each candidate, arrays float32 [C]; an item that came after the release follows nothing yet."""
    rows, transition = candidates.item_rows, candidates.transition
    if transition is None:
        transition, _ = catalog.release.neighbours.votes(history.rows).of(rows)
    is_new = (rows >= catalog.release.n_items).astype(np.float32) if len(catalog.newcomers) else None
    affinity = None
    ranker = catalog.release.ranker
    if ranker is not None and TAG_AFFINITY in ranker.feature_names:
        affinity = affinity_of(history.rows, rows, catalog)
    return RankFeatures(candidates.similarity, transition, catalog.log_popularity[rows], is_new, affinity)


def affinity_of(history: Rows, rows: Rows, catalog: CatalogView) -> Floats:
    """float32 [C], `tag_affinity` of these rows and a history int64 [T], oldest first."""
    neighbours = catalog.release.neighbours
    latest = history[::-1][: neighbours.history_window]
    return tag_affinity(catalog.kinds("tags", latest), catalog.kinds("tags", rows), neighbours.history_decay)


def ranked_by_blend(history: History, candidates: Candidates, catalog: CatalogView) -> Candidates:
    """With the value of the release's formula, best first."""
    return candidates.ranked(catalog.release.schema.blend.value(rank_features(history, candidates, catalog)))


def ranked(
    history: History,
    candidates: Candidates,
    query_vector: Floats | None,
    catalog: CatalogView,
    config: RankConfig,
    guard: AlwaysOn,
    budget: Budget,
) -> tuple[Candidates, str]:
    """With their value, best first, and why not by the release's ranker, where it has one: then the blend ranks. What
    is valued by the blend already stays as it is."""
    why = ""
    if catalog.release.ranker is not None:
        features = rank_features(history, candidates, catalog)
        value, why = learned_or_why(features, query_vector, catalog, config, guard, budget)
        if value is not None:
            return candidates.ranked(value), ""
    return (candidates if candidates.is_valued else ranked_by_blend(history, candidates, catalog)), why


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


def learned_or_why(
    features: RankFeatures,
    query_vector: Floats | None,
    catalog: CatalogView,
    config: RankConfig,
    guard: AlwaysOn,
    budget: Budget,
) -> tuple[Floats | None, str]:
    """The ranker's value, or None and why: the blend then ranks."""
    if not budget.affords("rank"):
        return None, "no_time"
    if not guard.works():
        return None, "ranker_broken"
    try:
        value = learned_value(features, query_vector, catalog, config)
    except ArtifactError:
        guard.note(False)
        return None, "ranker_failed"
    guard.note(True)
    return value, ""


def reasons_of(
    history: History, shown: Candidates, sources: Sequence[str], catalog: CatalogView
) -> list[tuple[str, ...]]:
    """Why each item is there, in words, never none: the history item that leads to it, else what its source says."""
    rows = shown.item_rows.tolist()
    leading = shown.leads
    if leading is None:
        _, leading = catalog.release.neighbours.votes(history.rows).of(shown.item_rows)
    leads = leading.tolist()
    alike = _most_alike(history, [row for row, lead in zip(rows, leads, strict=True) if lead < 0], catalog)
    n_items, knows = catalog.release.n_items, len(history) > 0
    reasons = []
    for row, source, lead in zip(rows, sources, leads, strict=True):
        like = alike[row] if lead < 0 else -1
        if source == "pinned":
            mine: tuple[str, ...] = (SOURCE_SAYS[source],)
        elif lead >= 0:
            mine = (f"often chosen with {catalog.name(lead)}",)
        elif like >= 0:
            mine = (f"like {catalog.name(like)}",)
        else:
            mine = ()
        if row >= n_items:
            mine = (*mine, "new")
        reasons.append(mine or (SOURCE_SAYS[source] if knows or source != "ann" else "suggested to begin with",))
    return reasons


def _most_alike(history: History, rows: list[int], catalog: CatalogView) -> dict[int, int]:
    """Row → the row of the latest history items that it is most like, -1 where it is like none of them. Kept with the
    history for some rows of the release, whose vectors stay."""
    kept = history.alike
    found = {row: kept[row] for row in rows if row in kept}
    more = [row for row in rows if row not in found]
    if more:
        compared = dict(zip(more, _nearest_in(history, np.array(more, dtype=np.int64), catalog), strict=True))
        found |= compared
        to_keep = {row: like for row, like in compared.items() if row < catalog.release.n_items}
        if len(kept) + len(to_keep) <= ALIKE_KEPT:
            kept.update(to_keep)
    return found


def _nearest_in(history: History, rows: Rows, catalog: CatalogView) -> list[int]:
    latest = history.rows[::-1][:LOOKED_BACK]
    if not len(latest):
        return [-1] * len(rows)
    mine, theirs = catalog.vectors(rows), catalog.vectors(latest)
    lengths = np.sqrt(np.einsum("nd,nd->n", theirs, theirs))
    cosines = mine @ theirs.T / np.maximum(lengths, 1e-12)
    best = cosines.argmax(axis=1)
    least = ALIKE * np.sqrt(np.einsum("nd,nd->n", mine, mine))
    is_alike = cosines[np.arange(len(rows)), best] > least
    return [int(row) for row in np.where(is_alike, latest[best], -1)]
