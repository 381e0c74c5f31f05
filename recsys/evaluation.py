"""Offline evaluation: each user's target ranked against the whole catalogue, with intervals, warm and cold apart.

Letters: U users with targets, T targets, B users of a batch, N items, K places of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.dataset import Mask, Rows, Sequences, Split, global_temporal, leave_last_out
from recsys.metrics import beyond_accuracy
from recsys.metrics.bootstrap import Estimate, bootstrap_difference, bootstrap_mean
from recsys.metrics.full_ranking import ScoreBatch, distinct_users, rank_targets
from recsys.metrics.ranking import NO_ITEM, mrr_of_ranks, ndcg_of_ranks, rank_in_lists, recall_of_ranks

__all__ = [
    "Estimate",
    "Evaluation",
    "EvaluationConfig",
    "Group",
    "Report",
    "ScoreBatch",
    "compare",
    "distinct_users",
    "evaluate",
    "evaluate_slates",
    "make_split",
]

Values = NDArray[np.float64]

LIST_LENGTH = 10

_MEASURES: Mapping[str, Callable[[Rows, int], Values]] = {
    "recall": recall_of_ranks,
    "ndcg": ndcg_of_ranks,
    "mrr": mrr_of_ranks,
}


class EvaluationConfig(Config):
    """How models are compared.

    Attributes:
        split: "leave_last_out" (each user's last interaction) or "temporal" (all after one point in time).
        temporal_quantile: share of interactions before that point.
        ks: the depths of recall, NDCG and MRR.
        n_bootstrap: resamples of users behind each interval.
        confidence: of the intervals.
        seed: of the resamples.
    """

    split: Literal["leave_last_out", "temporal"] = "leave_last_out"
    temporal_quantile: Annotated[float, Field(gt=0, lt=1)] = 0.9
    ks: tuple[Annotated[int, Field(gt=0)], ...] = (10, 20)
    n_bootstrap: Annotated[int, Field(gt=0)] = 1000
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Group:
    """What was measured for one kind of targets; `measures` is empty when there are none."""

    n_targets: int
    n_users: int
    measures: Mapping[str, Estimate]

    def as_json(self) -> dict[str, Any]:
        """`{"n_targets": n, "n_users": n, "ndcg@10": {"value", "low", "high"}, ...}`."""
        counts = {"n_targets": self.n_targets, "n_users": self.n_users}
        return {**counts, **{name: estimate.as_json() for name, estimate in self.measures.items()}}


@dataclass(frozen=True)
class Report:
    """All targets, those whose item was trained on (warm), and those whose item was not (cold).

    `overall` has, besides accuracy: `coverage@10`, `gini@10`, `popularity@10` (the share of users that chose the
    average shown item) and `novelty@10` (bits), of the lists that users would see.
    """

    overall: Group
    warm: Group
    cold: Group

    def as_json(self) -> dict[str, Any]:
        """The measures of all targets flat, and "warm" and "cold" of the same form."""
        return {**self.overall.as_json(), "warm": self.warm.as_json(), "cold": self.cold.as_json()}


@dataclass(frozen=True)
class Evaluation:
    """One model's ranks on one split.

    Attributes:
        users: int64 [T], user row of each target.
        items: int64 [T], item row of each target.
        ranks: int64 [T], from 1; `metrics.ranking.MISS` where a slate lacks the target.
        lists: int64 [U, 10], what each distinct user would see, padded with `NO_ITEM`.
        report: the measures.
    """

    users: Rows
    items: Rows
    ranks: Rows
    lists: Rows
    report: Report

    def values(self, measure: str) -> Values:
        """One measure such as "ndcg@10" for each target: float64 [T]. Raises ValueError when it is not known."""
        name, _, k = measure.partition("@")
        if name not in _MEASURES or not k.isdecimal():
            raise ValueError(f"{measure!r} is not a measure of targets: write one of {sorted(_MEASURES)}, then @k")
        return _MEASURES[name](self.ranks, int(k))


def make_split(sequences: Sequences, config: EvaluationConfig, *, part: str = "test") -> Split:
    """The split that `config` names; `part` ("validation" or "test") matters to leave-last-out alone."""
    if config.split == "temporal":
        return global_temporal(sequences, quantile=config.temporal_quantile)
    return leave_last_out(sequences, part=part)


def evaluate(score_batch: ScoreBatch, split: Split, n_items: int, config: EvaluationConfig | None = None) -> Evaluation:
    """Rank each target among all items but the user's history (a target that is in the history stays).

    Streams over batches of users: beside the model, memory is bounded by a few arrays of
    `full_ranking.MAX_BATCH_BYTES`.

    Args:
        score_batch: user rows int64 [B] to float32 [B, N], the larger the better; what a user already has need not
            be masked. Called once for each user. See `baselines` for the form.
        split: what is known and what is to be found.
        n_items: N.
        config: defaults to `EvaluationConfig()`.
    """
    ranks, lists = rank_targets(score_batch, split, n_items, list_length=LIST_LENGTH)
    return _evaluation(split, ranks, lists, n_items, config or EvaluationConfig())


def evaluate_slates(
    slates: Sequence[Rows], split: Split, n_items: int, config: EvaluationConfig | None = None
) -> Evaluation:
    """Judge what a service returned. A target that is not in its user's slate is a miss, and counts 0.

    Args:
        slates: item rows best first (int64, no row twice), one slate for each of `distinct_users(split)`.
        split, n_items, config: as in `evaluate`.
    """
    users = distinct_users(split)
    if len(slates) != len(users):
        raise ValueError(f"one slate for each of the {len(users)} users with a target, not {len(slates)}")
    full = np.full((len(users), max((len(slate) for slate in slates), default=0)), NO_ITEM, dtype=np.int64)
    for place, slate in enumerate(slates):
        full[place, : len(slate)] = slate
    of_target = full[np.searchsorted(users, split.target_users)]
    ranks = rank_in_lists(of_target, split.target_items)
    return _evaluation(split, ranks, full[:, :LIST_LENGTH], n_items, config or EvaluationConfig())


def compare(a: Evaluation, b: Evaluation, measure: str = "ndcg@10", config: EvaluationConfig | None = None) -> Estimate:
    """How much better `a` is than `b`: paired bootstrap over users of the difference of the means.

    Raises:
        ValueError: they were not measured on the same targets.
    """
    if not (np.array_equal(a.users, b.users) and np.array_equal(a.items, b.items)):
        raise ValueError("the two evaluations have different targets: evaluate both on one split")
    config = config or EvaluationConfig()
    return bootstrap_difference(
        a.values(measure),
        b.values(measure),
        a.users,
        n_bootstrap=config.n_bootstrap,
        seed=config.seed,
        confidence=config.confidence,
    )


def _evaluation(split: Split, ranks: Rows, lists: Rows, n_items: int, config: EvaluationConfig) -> Evaluation:
    warm = split.train.item_counts(n_items)[split.target_items] > 0
    everything = np.ones(len(ranks), dtype=np.bool_)
    accuracy = [_group(split.target_users, ranks, mask, config) for mask in (everything, warm, ~warm)]
    beyond = _beyond_accuracy(lists, split, n_items, config) if len(ranks) else {}
    overall = Group(accuracy[0].n_targets, accuracy[0].n_users, {**accuracy[0].measures, **beyond})
    report = Report(overall, accuracy[1], accuracy[2])
    return Evaluation(split.target_users, split.target_items, ranks, lists, report)


def _group(users: Rows, ranks: Rows, mask: Mask, config: EvaluationConfig) -> Group:
    if not mask.any():
        return Group(0, 0, {})
    names = [f"{name}@{k}" for name in _MEASURES for k in config.ks]
    values = np.stack([measure(ranks[mask], k) for measure in _MEASURES.values() for k in config.ks], axis=1)
    estimates = _means(values, users[mask], config)
    return Group(int(mask.sum()), len(np.unique(users[mask])), dict(zip(names, estimates, strict=True)))


def _beyond_accuracy(lists: Rows, split: Split, n_items: int, config: EvaluationConfig) -> dict[str, Estimate]:
    train = split.train
    chosen = np.unique(train.user_rows * n_items + train.item_rows) % n_items
    popularity = np.bincount(chosen, minlength=n_items) / max(train.n_users, 1)
    per_list = [
        beyond_accuracy.list_popularity(lists, popularity),
        beyond_accuracy.novelty(lists, popularity),
    ]
    of_lists = _means(np.stack(per_list, axis=1), np.arange(len(lists)), config)
    counts = beyond_accuracy.exposure_counts(lists, n_items)
    return {
        f"coverage@{LIST_LENGTH}": Estimate(beyond_accuracy.coverage(lists, n_items)),
        f"gini@{LIST_LENGTH}": Estimate(beyond_accuracy.gini(counts)),
        f"popularity@{LIST_LENGTH}": of_lists[0],
        f"novelty@{LIST_LENGTH}": of_lists[1],
    }


def _means(values: Values, users: Rows, config: EvaluationConfig) -> list[Estimate]:
    return bootstrap_mean(values, users, n_bootstrap=config.n_bootstrap, seed=config.seed, confidence=config.confidence)
