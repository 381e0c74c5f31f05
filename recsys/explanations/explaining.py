"""The stage `explain`: parts of each item's value that add up to it, and what of the history mattered most.

    value = base + behaviour + image + text + ... + popularity + rules

base is the value where nobody takes part, rules what a surface's boosts gave, each other part the player's Shapley
value. Popularity and rules only add; behaviour and content meet in the towers, which are run for every coalition. What
float32 arithmetic leaves between the served value and the one computed here is counted to behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.budget import Budget
from recsys.errors import ArtifactError, MissingArtifact
from recsys.explanations.because import because
from recsys.explanations.shapley import Worth, shapley_values
from recsys.explanations.towers import similarity_by_coalition, tower_players
from recsys.explanations.values import POPULARITY, ValueOf, blended, learned, worth_of_coalitions
from recsys.history import History
from recsys.live import CatalogView
from recsys.ports import RankFeatures
from recsys.ranking import RankConfig, rank_features
from recsys.trace import Trace
from recsys.types import Candidates, Query

Floats = NDArray[np.float32]
BASE, RULES = "base", "rules"
UNSPLIT = ("similarity", "transition")  # the players where the similarity cannot be taken apart
ROUNDING = 1e-3  # of the value, and of 1: what differs more from what was served is no rounding


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one item: the parts of its value by name, which add up to it within 1e-6, and ids of the history, the one that
    mattered most first."""

    parts: Mapping[str, float]
    because: tuple[str, ...] = ()


Explanations = Mapping[int, Explanation]
"""By item row."""
NOT_ASKED: Explanations = {}
UNEXPLAINED = Explanation({})


def as_one(value: float) -> Explanation:
    """Of an item that is valued by another formula than recommendations: its value is one part."""
    return Explanation({"relevance": value})


class Asker(Protocol):
    """What is known of who asks."""

    @property
    def history(self) -> History: ...

    @property
    def profile(self) -> Floats | None:
        """float32 [P], the profile's text vector."""
        ...


def explain(
    query: Query,
    known: Asker,
    query_vector: Floats | None,
    chosen: Candidates,
    catalog: CatalogView,
    config: RankConfig,
    budget: Budget,
    trace: Trace,
) -> Explanations:
    """Of each chosen item, where the query asks for it; nothing is done otherwise.

    What cannot be told is told more coarsely, and named as the stage's fallback: the similarity as one part where the
    towers cannot be run for each coalition (`no_id_vectors`, `tower_failed`, `not_reproduced`, `no_time`), the value as
    one where the ranker fails (`ranker_failed`).
    """
    if not query.explain:
        return NOT_ASKED
    with trace.stage("explain", len(chosen)) as stage:
        # Whoever valued them: the blend stood in for a ranker that failed or had no time.
        is_learned = catalog.release.ranker is not None and "rank" not in trace.degraded
        value_of = learned(catalog, query_vector, config) if is_learned else blended(catalog.release)
        opened = _Opened(known, query_vector, chosen, catalog, rank_features(known.history, chosen, catalog), value_of)
        explanations, stage.fallback = opened.explained(has_time=not len(chosen) or budget.affords("explain"))
        stage.n_out = len(explanations)
        return dict(zip(chosen.item_rows.tolist(), explanations, strict=True))


@dataclass(frozen=True, slots=True)
class _Opened:
    """One slate, while it is explained.

    Attributes:
        features: float32 [C] each, as the items were ranked by.
        value_of: as the rank stage valued them.
    """

    known: Asker
    query_vector: Floats | None
    chosen: Candidates
    catalog: CatalogView
    features: RankFeatures
    value_of: ValueOf

    def explained(self, *, has_time: bool) -> tuple[list[Explanation], str]:
        """One explanation for each item, and the fallback that it took."""
        if not len(self.chosen):
            return [], ""
        try:
            if not has_time:
                return [Explanation(each) for each in self._unsplit()], "no_time"
            parts, fallback = self._parts()
        except ArtifactError:
            return [Explanation(each) for each in self._whole()], "ranker_failed"
        try:
            leading = self._because()
        except ArtifactError:
            leading, fallback = [()] * len(parts), fallback or "tower_failed"
        return [Explanation(each, ids) for each, ids in zip(parts, leading, strict=True)], fallback

    def _parts(self) -> tuple[list[dict[str, float]], str]:
        """Raises ArtifactError where the ranker fails; where a tower does, the similarity stays whole."""
        players = tower_players(self.catalog.release)
        if self.query_vector is None:
            # No tower spoke when they were ranked, so there is no similarity to take apart.
            return self._split(players, np.zeros((1 << len(players), len(self.chosen)), np.float32))
        try:
            rows, known = self.chosen.item_rows, self.known
            similarity = similarity_by_coalition(rows, known.history, known.profile, self.catalog)
        except MissingArtifact:
            return self._unsplit(), "no_id_vectors"
        except ArtifactError:
            return self._unsplit(), "tower_failed"
        return self._split(players, similarity)

    def _split(self, players: tuple[str, ...], similarity: Floats) -> tuple[list[dict[str, float]], str]:
        worth = worth_of_coalitions(similarity, self.features, 0, self.value_of)
        served = self._ranked_by()
        if (np.abs(worth[-1] - served) > ROUNDING * np.maximum(1, np.abs(served))).any():
            return self._unsplit(), "not_reproduced"
        return self._named((*players, POPULARITY), worth), ""

    def _unsplit(self) -> list[dict[str, float]]:
        """The formula's own terms, or what a ranker makes of its features: the same game with the similarity whole."""
        similarity = self.features.similarity
        nothing = np.zeros_like(similarity)
        by_coalition = np.stack([nothing, similarity, nothing, similarity])
        worth = worth_of_coalitions(by_coalition, self.features, UNSPLIT.index("transition"), self.value_of)
        return self._named((*UNSPLIT, POPULARITY), worth)

    def _whole(self) -> list[dict[str, float]]:
        return self._named((), self._ranked_by()[None])

    def _named(self, players: tuple[str, ...], worth: Worth) -> list[dict[str, float]]:
        """The parts of each item by name, from the worth of each coalition float64 [2**P, C]."""
        columns = dict(zip(players, shapley_values(worth), strict=True))
        columns |= {RULES: self._boost(), BASE: worth[0].copy()}
        rest = self._ranked_by() - worth[-1]
        columns[players[0] if players else BASE] += rest
        return [{name: float(column[at]) for name, column in columns.items()} for at in range(len(self.chosen))]

    def _ranked_by(self) -> Worth:
        """float64 [C], the value before a surface's rules."""
        return self.chosen.value.astype(np.float64) - self._boost()

    def _boost(self) -> Worth:
        boost = self.chosen.boost
        return np.zeros(len(self.chosen)) if boost is None else boost.astype(np.float64)

    def _because(self) -> list[tuple[str, ...]]:
        return because(
            self.chosen.item_rows,
            self.known.history,
            self.known.profile,
            self.features,
            self.value_of,
            self.catalog,
            has_query=self.query_vector is not None,
        )
