"""A head that needs no training, made honest: its confidences calibrated, its thresholds chosen, on labelled items.

A model's own classes and prompts come with confidences that nobody checked. Each tag's raw confidence p is taken as a
logit, log(p / (1 - p)), calibrated as those of trained heads are, and what comes out is kept as one curve over p.

Letters: n labelled items, C tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.calibration import Activation, Calibration, Isotonic
from embeddings.tagging.evaluation import evaluation_of, in_short
from embeddings.tagging.heads import Head, Vectors
from embeddings.tagging.held_out import Evidence, choose_method, choose_thresholds, cross_fitted
from embeddings.tagging.labels import Labels
from embeddings.tagging.material import material_of
from embeddings.tagging.taxonomy import Taxonomy
from embeddings.tagging.trained import TrainedHead, fixed_thresholds, folds_of, out_of_fold_table, rule_of
from recsys.errors import InputError
from recsys.tagging_config import TaggingConfig

_AS: Activation = "sigmoid"
_EDGE = 1e-6  # raw confidences closer to 0 or 1 than this are no surer than it
_KNOTS = np.linspace(-14.0, 14.0, 57)


def calibrate_on(
    base: Head,
    vectors: Vectors,
    item_ids: Sequence[str],
    labels: Labels,
    taxonomy: Taxonomy | None,
    config: TaggingConfig,
    *,
    folds: Mapping[str, int] | None = None,
) -> TrainedHead:
    """The head with calibrated confidences and chosen thresholds for the tags that the labels name.

    Its weights stay as they are. The figures in `evaluation` are of items that neither calibration nor threshold has
    seen.

    Args:
        folds: item_id → fold, of every labelled item; None: dealt out by `config.training.folds`.

    Raises:
        InputError: the head gives none of the labelled tags, or too few labelled items have vectors.
    """
    known = [at for at, tag in enumerate(labels.tags) if tag in base.spec.tags]
    if not known:
        raise InputError(f"the {base.spec.name} head gives none of the labelled tags: {', '.join(labels.tags[:5])}")
    mine = tuple(labels.tags[at] for at in known)
    labels = replace(labels, y=labels.y[:, known], known=labels.known[:, known], tags=mine)
    material = material_of(vectors, item_ids, labels, taxonomy, base.spec.name)
    data, tags, training = material.data, material.tags, config.training
    columns = [base.spec.tags.index(tag) for tag in tags]
    labelled_ids = [item_ids[row] for row in material.rows]
    fold_of = folds_of(data, labelled_ids, config, folds)
    evidence = Evidence(_logits(base, data.vectors, columns), data.y, data.known, fold_of, tags, _AS)
    method, losses = choose_method(evidence, training.calibration)
    rule, fixed = rule_of(config), fixed_thresholds(taxonomy, tags)
    told = cross_fitted(evidence, method, rule, fixed)
    found = evidence.calibrated_by(method)
    curves = {tag: _curve(found, tag) for tag in tags} if method != "none" else {}
    calibration = Calibration(method="isotonic", isotonic={**base.spec.calibration.isotonic, **curves})
    chosen = choose_thresholds(evidence, Calibration(method="isotonic", isotonic=curves), rule, fixed)
    evaluation = evaluation_of(material, evidence, told, chosen, rule, training.seed) | {
        "head": base.spec.name,
        "modalities": list(data.vectors),
        "calibration": {"method": method, "temperature": found.temperature, "held_out_log_loss": losses},
        "pseudo_labels": None,
        "training": training.model_dump(mode="json"),
    }
    spec = base.spec.model_copy(
        update={
            "calibration": calibration.model_copy(update={"temperature": base.spec.calibration.temperature}),
            "thresholds": {**base.spec.thresholds, **{tag: each.threshold for tag, each in chosen.items()}},
            "metrics": in_short(evaluation),
        }
    )
    return TrainedHead(Head(spec, base.weights), evaluation, out_of_fold_table(evidence, told, labelled_ids))


def _logits(base: Head, vectors: Vectors, columns: Sequence[int]) -> NDArray[np.float32]:
    """float32 [n, C]: of the tags' raw confidences."""
    raw = base.raw_of_logits(base.logits(vectors))[:, columns].astype(np.float64)
    inside = np.clip(raw, _EDGE, 1 - _EDGE)
    logits: NDArray[np.float32] = np.log(inside / (1 - inside)).astype(np.float32)
    return logits


def _curve(found: Calibration, tag: str) -> Isotonic:
    """Temperature and curve of one tag as one curve over raw confidences."""
    knots = _KNOTS
    if tag in found.isotonic:  # where its own curve bends, brought back before the temperature
        bends = np.clip(np.array(found.isotonic[tag].x, np.float64), _EDGE, 1 - _EDGE)
        knots = np.union1d(knots, found.temperature * np.log(bends / (1 - bends)))
    values = found.of_logits(knots[:, None].astype(np.float32), (tag,), _AS)[:, 0]
    return Isotonic(x=tuple((1 / (1 + np.exp(-knots))).tolist()), y=tuple(values.tolist()))
