"""From vectors and labels to a head that is ready: folds, pseudo-labels, calibration, thresholds, and all the figures.

Letters: N items of the catalogue, of which n are labelled; C tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.tagging.evaluation import evaluation_of, in_short
from embeddings.tagging.folds import fitted_head, out_of_fold, stratified_folds
from embeddings.tagging.heads import Head, Vectors
from embeddings.tagging.held_out import CrossFitted, Evidence, choose_method, choose_thresholds, cross_fitted
from embeddings.tagging.labels import Labels
from embeddings.tagging.material import material_of
from embeddings.tagging.pseudo import PseudoDecision, evidence_of, judge_pseudo_labels, pseudo_labelled
from embeddings.tagging.taxonomy import Taxonomy
from embeddings.tagging.thresholds import ThresholdRule
from embeddings.tagging.training import Rows, TrainingSet
from recsys.errors import InputError
from recsys.manifest import EmbeddingSpace
from recsys.tagging_config import TaggingConfig

OUT_OF_FOLD_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("label", pa.bool_(), nullable=False),
    ]
)
OnProgress = Callable[[int, int], None]
"""Called with (fits done, fits in all)."""


@dataclass(frozen=True)
class TrainedHead:
    """A head and how good it is.

    Attributes:
        evaluation: for reports, as JSON; `train_on` says what.
        out_of_fold: `OUT_OF_FOLD_SCHEMA`, every labelled pair with the calibrated confidence of a head, a calibration
            and a threshold that have not learned from its item.
    """

    head: Head
    evaluation: dict[str, Any]
    out_of_fold: pa.Table


def train_on(
    vectors: Vectors,
    spaces: Mapping[str, EmbeddingSpace],
    item_ids: Sequence[str],
    labels: Labels,
    taxonomy: Taxonomy | None,
    config: TaggingConfig,
    *,
    head: str,
    folds: Mapping[str, int] | None = None,
    groups: Mapping[str, str] | None = None,
    on_progress: OnProgress | None = None,
) -> TrainedHead:
    """Fit the head `head` on all labelled items, and judge it by k-fold.

    `evaluation` holds `figures` (`figures.measured`), `by_fold`, `reliability` (`before`, `after`, `by_tag`),
    `calibration`, `thresholds` by tag, `verdicts`, `pseudo_labels`, `left_out`, and what it was made from. All but the
    thresholds are figures of items that neither head, nor calibration, nor threshold has learned from.

    Args:
        vectors: modality → float32 [N, D_m], bool [N], of all items of the catalogue.
        item_ids: their `N` ids.
        folds: item_id → fold, of every labelled item; None: dealt out by `config.training.folds`.
        groups: item_id → group that stays in one fold; an item that is not in it is a group of its own.

    Raises:
        InputError: too few labelled items have vectors, or no tag can be told.
    """
    material = material_of(vectors, item_ids, labels, taxonomy, head)
    training, data, tags = config.training, material.data, material.tags
    labelled_ids = [item_ids[row] for row in material.rows]
    fold_of = folds_of(data, labelled_ids, config, folds, groups)
    n_folds = len(np.unique(fold_of))
    counter = _Counter(on_progress, n_folds * (2 if training.pseudo_confidence else 1) + 1)
    found = out_of_fold(data, spaces, tags, training, fold_of, on_fit=counter)
    decision: PseudoDecision | None = None
    if training.pseudo_confidence:
        decision, found = judge_pseudo_labels(data, material.unlabelled, found, spaces, tags, training, on_fit=counter)
    evidence = evidence_of(data, found, tags)
    method, losses = choose_method(evidence, training.calibration)
    rule, fixed = rule_of(config), fixed_thresholds(taxonomy, tags)
    told = cross_fitted(evidence, method, rule, fixed)
    calibration = evidence.calibrated_by(method)
    chosen = choose_thresholds(evidence, calibration, rule, fixed)
    whole = fitted_head(data, spaces, tags, training, seed=training.seed, name=head)
    if decision is not None and decision.kept:
        sure = Head(whole.spec.model_copy(update={"calibration": calibration}), whole.weights)
        more = pseudo_labelled(sure, material.unlabelled, training.pseudo_confidence, n_labelled=len(data))
        whole = fitted_head(data.with_more(more), spaces, tags, training, seed=training.seed, name=head)
    counter.end()
    evaluation = evaluation_of(material, evidence, told, chosen, rule, training.seed) | {
        "head": head,
        "modalities": list(data.vectors),
        "calibration": {"method": method, "temperature": calibration.temperature, "held_out_log_loss": losses},
        "pseudo_labels": None if decision is None else decision.model_dump(mode="json"),
        "training": training.model_dump(mode="json"),
    }
    spec = whole.spec.model_copy(
        update={
            "calibration": calibration,
            "thresholds": {tag: each.threshold for tag, each in chosen.items()},
            "metrics": in_short(evaluation),
        }
    )
    return TrainedHead(Head(spec, whole.weights), evaluation, out_of_fold_table(evidence, told, labelled_ids))


class _Counter:
    def __init__(self, on_progress: OnProgress | None, total: int) -> None:
        self._on_progress, self._done, self._total = on_progress, 0, total

    def __call__(self) -> None:
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(min(self._done, self._total), self._total)

    def end(self) -> None:
        self._done = self._total
        self()


def folds_of(
    data: TrainingSet,
    item_ids: Sequence[str],
    config: TaggingConfig,
    folds: Mapping[str, int] | None,
    groups: Mapping[str, str] | None = None,
) -> Rows:
    """int64 [n]: the fold of each labelled item. Raises InputError: as `train_on`, or `folds` do not name them all."""
    if folds is not None:
        missing = [item_id for item_id in item_ids if item_id not in folds]
        if missing or len({folds[item_id] for item_id in item_ids}) < 2:
            raise InputError(f"the folds must name every labelled item, and be two or more; {missing[:3]} have none")
        return np.array([folds[item_id] for item_id in item_ids], np.int64)
    named = None if groups is None else [groups.get(item_id, f"\x00{item_id}") for item_id in item_ids]
    return stratified_folds(data.y, data.known, config.training.folds, seed=config.training.seed, groups=named)


def rule_of(config: TaggingConfig) -> ThresholdRule:
    """What thresholds are chosen for."""
    return ThresholdRule(
        precision=config.training.target_precision,
        no_precision=config.training.abstain_precision,
        sureness=config.training.sureness,
        default=config.threshold,
        unsure_from=config.unsure_from,
    )


def fixed_thresholds(taxonomy: Taxonomy | None, tags: Sequence[str]) -> dict[str, float]:
    """tag → the taxonomy's own threshold, where it has one."""
    own = {} if taxonomy is None else {tag: taxonomy.tags[tag].threshold for tag in tags}
    return {tag: threshold for tag, threshold in own.items() if threshold is not None}


def out_of_fold_table(evidence: Evidence, told: CrossFitted, item_ids: Sequence[str]) -> pa.Table:
    """`OUT_OF_FOLD_SCHEMA`."""
    item, tag = np.nonzero(evidence.known)
    columns = [
        pa.array(item_ids, pa.string()).take(pa.array(item)),
        pa.array(evidence.tags, pa.string()).take(pa.array(tag)),
        pa.array(told.confidence[item, tag], pa.float32()),
        pa.array(evidence.y[item, tag] > 0, pa.bool_()),
    ]
    return pa.table(columns, schema=OUT_OF_FOLD_SCHEMA)
