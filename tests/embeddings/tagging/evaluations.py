"""An `evaluation.json` of two tags, with figures that are easily told apart."""

from __future__ import annotations

from typing import Any


def evaluation(**changes: Any) -> dict[str, Any]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.04, "high": value + 0.04}

    def of_tag(tag: str, precision: float) -> dict[str, Any]:
        counts = {"tag": tag, "n_known": 200, "n_yes": 70, "true_yes": 55, "false_yes": 9}
        return counts | {
            "precision": interval(precision),
            "recall": interval(0.61),
            "f1": interval(0.7),
            "ap": interval(0.8),
        }

    def reliability(ece: float) -> dict[str, Any]:
        bins = [
            {"low": at / 5, "high": (at + 1) / 5, "n": 80, "confidence": at / 5 + 0.1, "share_yes": at / 5 + 0.1 - ece}
            for at in range(5)
        ]
        return {"n": 400, "ece": ece, "ece_equal_mass": ece, "brier": 0.15, "log_loss": 0.4, "bins": bins}

    means = {name: interval(0.77) for name in ("precision", "recall", "f1", "ap")}
    never = {"threshold": {"yes": 1.01, "unsure": 0.3}, "origin": "unreached", "precision": None, "n_above": 0}
    chosen = {"threshold": {"yes": 0.62, "unsure": 0.31}, "origin": "held_out", "precision": 0.91, "n_above": 64}
    return {
        "tags": ["red", "round"],
        "exclusive": False,
        "n_labelled": 200,
        "figures": {
            "n_items": 200,
            "by_tag": [of_tag("red", 0.86), of_tag("round", 0.52)],
            "macro": means,
            "micro": means,
            "accuracy": None,
            "confusion": {"tags": ["red", "round"], "counts": [[55, 3], [12, 40]]},
        },
        "reliability": {
            "before": reliability(0.091),
            "after": reliability(0.023),
            "by_tag": {"red": {"before": reliability(0.1), "after": reliability(0.02)}},
        },
        "thresholds": {"red": chosen, "round": never},
        "verdicts": {
            "target_precision": 0.9,
            "abstain_precision": 0.98,
            "yes": {"value": 0.91, "low": 0.85, "high": 0.95, "n": 64},
            "no": {"value": 0.99, "low": 0.97, "high": 1.0, "n": 150},
            "unsure": {"value": 0.2, "low": 0.15, "high": 0.25, "n": 400},
        },
        "calibration": {"method": "isotonic", "temperature": 1.3},
        "unknown to the page": 1,
        **changes,
    }
