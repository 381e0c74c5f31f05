"""What a release must show before it may be published: its figures, and the rules of the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.baselines import Popularity
from recsys.dataset import Sequences, Split
from recsys.evaluation import (
    Evaluation,
    EvaluationConfig,
    compare,
    distinct_users,
    evaluate,
    evaluate_slates,
    make_split,
)
from recsys.index.exact import ExactIndex
from recsys.index.quality import FilteredRecall, IndexQuality, measure_index
from recsys.live import CatalogView
from recsys.metrics.bootstrap import Estimate
from recsys.ports import QueryEncoder
from recsys.release import LoadedRelease
from recsys.served import served_slates
from recsys.workspace import GateConfig, WorkspaceConfig

PROBE_QUERIES = 500
PROBE_K = 100


@dataclass(frozen=True)
class Acceptance:
    """The figures of a release; part of its id, so they hold no times.

    Attributes:
        n_items: of the catalogue.
        index_recall: recall@100 of the index against exact search, 1 for an exact one.
        index_filtered: the same under filters that let 90 % to .01 % of the items pass; empty for an exact one.
        n_users: test users whose slates were served.
        served, popularity: `{"ndcg@10": {"value", "low", "high"}, ...}` on the same users; empty without users.
        lift: served minus popularity, NDCG@10, paired over users; None without users.
        evaluation: what the figures were taken from, to compare with other models; no part of the record.
    """

    n_items: int
    index_recall: float
    index_filtered: tuple[FilteredRecall, ...]
    n_users: int
    served: Mapping[str, Any]
    popularity: Mapping[str, Any]
    lift: Estimate | None
    evaluation: Evaluation | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "n_items": self.n_items,
            "index_recall@100": round(self.index_recall, 6),
            "index_filtered_recall@100": [each.as_json() for each in self.index_filtered],
            "n_users": self.n_users,
            "served": dict(self.served),
            "popularity": dict(self.popularity),
            "served_minus_popularity": None if self.lift is None else self.lift.as_json(),
        }


def verify(
    catalog: CatalogView,
    sequences: Sequences,
    config: WorkspaceConfig,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Acceptance:
    """Measure a loaded release on the interactions that [evaluation] holds out: nothing in it has seen them."""
    split = make_split(sequences, config.evaluation).sampled(config.gate.max_users, seed=config.evaluation.seed)
    n_items = catalog.release.n_items
    index = index_quality(catalog, split, seed=config.evaluation.seed)
    if not len(split.target_users):
        return Acceptance(n_items, index.recall, index.filtered, 0, {}, {}, None)
    plan = config.evaluation
    slates = served_slates(catalog, split, config.recommender, on_progress=on_progress)
    served = evaluate_slates(slates, split, n_items, plan)
    popularity = popularity_of(split, n_items, plan)
    return Acceptance(
        n_items=n_items,
        index_recall=index.recall,
        index_filtered=index.filtered,
        n_users=len(distinct_users(split)),
        served=headline(served),
        popularity=headline(popularity),
        lift=compare(served, popularity, "ndcg@10", plan),
        evaluation=served,
    )


def popularity_of(split: Split, n_items: int, plan: EvaluationConfig) -> Evaluation:
    model = Popularity.fit(split.train, n_items)
    return evaluate(lambda users: model.scores(split.history, users), split, n_items, plan)


def headline(evaluation: Evaluation) -> dict[str, Any]:
    """The measures that a manifest and a table show."""
    measures = evaluation.report.overall.as_json()
    return {name: value for name, value in measures.items() if "@" in name}


def index_quality(catalog: CatalogView, split: Split, *, seed: int) -> IndexQuality:
    """Recall@100 of the release's index against exact search, over the queries of test users, without and with filters.

    Without users, items' own vectors spread over the catalogue stand in. An exact index is exact by construction.
    """
    release = catalog.release
    if release.n_items == 0 or release.query_encoder is None or type(release.index) is ExactIndex:
        return IndexQuality(1.0, ())
    users = distinct_users(split)[:PROBE_QUERIES]
    if len(users):
        queries = np.stack([_query(release, release.query_encoder, split.history, int(user)) for user in users])
    else:
        probes = np.linspace(0, release.n_items - 1, min(PROBE_QUERIES, release.n_items)).astype(np.int64)
        queries = np.ascontiguousarray(release.item_vectors[probes])
    return measure_index(release.index, ExactIndex(release.item_vectors), queries, k=PROBE_K, seed=seed)


def _query(release: LoadedRelease, tower: QueryEncoder, history: Sequences, user: int) -> NDArray[np.float32]:
    """float32 [D], what the query tower asks for a user of an evaluation."""
    mine = history.of(user)
    latest = slice(max(mine.start, mine.stop - release.schema.max_history), mine.stop)
    codes = np.array([release.event_type_code(name) for name in history.event_type_names], dtype=np.int64)
    return tower.encode(release.item_vectors[history.item_rows[latest]], codes[history.event_types[latest]])


def gate_problems(
    acceptance: Mapping[str, Any], current: Mapping[str, Any] | None, config: GateConfig
) -> tuple[str, ...]:
    """What keeps a release from being published; empty when it may be.

    Both are `Acceptance.as_json()`; `current` is that of the release that it would replace, if there is one.
    """
    problems = []
    recall = acceptance["index_recall@100"]
    if recall < config.min_index_recall:
        problems.append(f"index recall@100 is {recall:.4f}, below {config.min_index_recall}")
    problems += _filter_problems(acceptance.get("index_filtered_recall@100", ()), config)
    n_items, n_before = acceptance["n_items"], (current or {}).get("n_items", 0)
    if n_items < n_before * (1 - config.max_shrink):
        problems.append(f"the catalogue has {n_items:,} items, and the current release has {n_before:,}")
    if acceptance["n_users"] >= max(config.min_users, 1):
        served = acceptance["served"]["ndcg@10"]["value"]
        popularity = acceptance["popularity"]["ndcg@10"]["value"]
        if served < config.min_lift_over_popularity * popularity:
            problems.append(f"served NDCG@10 {served:.4f} is not above popularity's {popularity:.4f}")
        before = (current or {}).get("served", {}).get("ndcg@10", {}).get("value")
        if before is not None and served < before * (1 - config.max_loss):
            problems.append(f"served NDCG@10 {served:.4f} fell by more than {config.max_loss:.0%} from {before:.4f}")
    return tuple(problems)


def _filter_problems(filtered: Sequence[Mapping[str, Any]], config: GateConfig) -> list[str]:
    """What is wrong with an index under filters, from `FilteredRecall.as_json()`."""
    problems = []
    for each in filtered:
        where = f"where a filter lets {100 * each['selectivity']:g} % of the items pass"
        if each["recall"] < config.min_filtered_recall:
            problems.append(f"index recall@100 is {each['recall']:.4f}, below {config.min_filtered_recall}, {where}")
        if each["shortest_share"] < 1:
            problems.append(f"the index answers with too few items {where}")
        if each["strays"]:
            problems.append(f"the index answers with items that are not allowed {where}")
    return problems
