"""The figures of a head's training: what `evaluation.json` holds, all of it from items that were held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.calibration import NO_CALIBRATION
from embeddings.tagging.figures import Judged, Measure, estimate, measured
from embeddings.tagging.held_out import CrossFitted, Evidence
from embeddings.tagging.material import Material
from embeddings.tagging.reliability import reliability
from embeddings.tagging.thresholds import Chosen, ThresholdRule, wilson
from embeddings.tagging.training import Rows


def evaluation_of(
    material: Material,
    evidence: Evidence,
    told: CrossFitted,
    chosen: Mapping[str, Chosen],
    rule: ThresholdRule,
    seed: int,
) -> dict[str, Any]:
    data, known, y = material.data, evidence.known, evidence.y
    raw = evidence.confidences(NO_CALIBRATION)
    judged = Judged(told.confidence, told.yes, y, known, data.exclusive)
    by_tag = {
        tag: {
            name: reliability(each[known[:, at], at], y[known[:, at], at]).model_dump(mode="json")
            for name, each in (("before", raw), ("after", told.confidence))
        }
        for at, tag in enumerate(evidence.tags)
    }
    return {
        "tags": list(evidence.tags),
        "exclusive": data.exclusive,
        "n_labelled": len(data),
        "n_unlabelled": len(material.unlabelled),
        "left_out": material.left_out,
        "figures": measured(judged, evidence.tags, seed=seed),
        "by_fold": _by_fold(judged, evidence.folds, seed),
        "reliability": {
            "before": reliability(raw[known], y[known]).model_dump(mode="json"),
            "after": reliability(told.confidence[known], y[known]).model_dump(mode="json"),
            "by_tag": by_tag,
        },
        "thresholds": {tag: each.model_dump(mode="json") for tag, each in chosen.items()},
        "verdicts": _verdicts(told, y, known, chosen, rule, evidence.tags),
    }


def _by_fold(judged: Judged, folds: Rows, seed: int) -> list[dict[str, Any]]:
    found = []
    for fold in np.unique(folds):
        here = folds == fold
        each = (judged.confidence[here], judged.yes[here], judged.y[here], judged.known[here])
        part = Judged(*each, judged.exclusive)
        measure: Measure = "accuracy" if judged.exclusive else "macro_ap"
        value = estimate(part, measure, seed=seed, n_bootstrap=0).value
        found.append({"fold": int(fold), "n_items": int(here.sum()), measure: None if np.isnan(value) else value})
    return found


def _verdicts(
    told: CrossFitted,
    y: NDArray[np.float32],
    known: NDArray[np.bool_],
    chosen: Mapping[str, Chosen],
    rule: ThresholdRule,
    tags: Sequence[str],
) -> dict[str, Any]:
    """How often a yes and a no were right on held-out items, of the tags whose threshold was chosen for that."""
    for_precision = np.array([chosen[tag].origin == "held_out" for tag in tags])
    yes, no = told.yes & known & for_precision, ~told.yes & ~told.unsure & known
    return {
        "target_precision": rule.precision,
        "yes": _share(int((yes & (y > 0)).sum()), int(yes.sum())),
        "abstain_precision": rule.no_precision,
        "no": _share(int((no & (y <= 0)).sum()), int(no.sum())),
        "unsure": _share(int((told.unsure & known).sum()), int(known.sum())),
    }


def _share(right: int, n: int) -> dict[str, Any]:
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    low, high = wilson(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}


def in_short(evaluation: Mapping[str, Any]) -> dict[str, object]:
    figures, error = evaluation["figures"], evaluation["reliability"]
    return {
        "n_labelled": evaluation["n_labelled"],
        "accuracy": figures["accuracy"],
        "macro_ap": figures["macro"]["ap"],
        "micro_ap": figures["micro"]["ap"],
        "ece_before": error["before"]["ece"],
        "ece_after": error["after"]["ece"],
    }
