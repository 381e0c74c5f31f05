"""Figures of a head, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embeddings.tagging.figures import Judged, average_precision, confusion, difference, estimate, measured


def judged(confidence: Any, y: Any, *, yes: Any = None, known: Any = None, exclusive: bool = False) -> Judged:
    confidence, y = np.array(confidence, np.float32), np.array(y, np.float32)
    given = confidence >= 0.5 if yes is None else np.array(yes, np.bool_)
    return Judged(confidence, given, y, np.ones(y.shape, np.bool_) if known is None else np.array(known), exclusive)


def test_average_precision_is_the_mean_over_the_yes_of_the_precision_down_to_them() -> None:
    confidence, y = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([1, 0, 1, 0], np.float32)
    assert average_precision(confidence, y, np.ones((1, 4)))[0] == pytest.approx(1 / 2 * (1 / 1 + 2 / 3))
    twice = np.array([[1.0, 2.0, 1.0, 1.0]])  # the second item drawn twice
    assert average_precision(confidence, y, twice)[0] == pytest.approx(1 / 2 * (1 / 1 + 2 / 4))


def test_equal_confidences_come_together() -> None:
    confidence, y = np.array([0.5, 0.5, 0.5, 0.1], np.float32), np.array([0, 1, 0, 0], np.float32)
    assert average_precision(confidence, y, np.ones((1, 4)))[0] == pytest.approx(1 / 3)


def test_average_precision_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(1)
    confidence = rng.random(200).round(2).astype(np.float32)
    y = (rng.random(200) < confidence).astype(np.float32)
    ours = average_precision(confidence, y, np.ones((1, 200)))[0]
    assert ours == pytest.approx(average_precision_score(y, confidence), abs=1e-9)


def test_figures_of_tags_by_hand() -> None:
    told = judged([[0.9, 0.2], [0.8, 0.6], [0.1, 0.7], [0.6, 0.1]], [[1, 0], [0, 1], [1, 0], [1, 0]])
    found: dict[str, Any] = measured(told, ("sea", "sun"), seed=0, n_bootstrap=50)
    sea = found["by_tag"][0]
    assert (sea["n_yes"], sea["true_yes"], sea["false_yes"]) == (3, 2, 1)
    assert sea["precision"]["value"] == pytest.approx(2 / 3)
    assert sea["recall"]["value"] == pytest.approx(2 / 3)
    assert sea["precision"]["low"] <= 2 / 3 <= sea["precision"]["high"]
    assert found["micro"]["precision"]["value"] == pytest.approx((2 + 1) / (3 + 2))
    assert found["macro"]["precision"]["value"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["accuracy"] is None


def test_unknown_pairs_count_for_nothing() -> None:
    known = [[True], [True], [False]]
    found: dict[str, Any] = measured(judged([[0.9], [0.1], [0.9]], [[1], [0], [0]], known=known), ("sea",), seed=0)
    assert found["by_tag"][0]["precision"]["value"] == 1
    assert found["by_tag"][0]["n_known"] == 2


def test_a_tag_that_is_never_given_has_no_precision() -> None:
    found: dict[str, Any] = measured(judged([[0.1], [0.2]], [[1], [0]]), ("sea",), seed=0)
    assert found["by_tag"][0]["precision"]["value"] is None
    assert found["by_tag"][0]["recall"]["value"] == 0


def test_the_confusion_of_exclusive_tags_counts_what_was_taken_for_what() -> None:
    told = judged([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.6, 0.1]], np.eye(3)[[0, 1, 1]], exclusive=True)
    assert confusion(told).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert estimate(told, "accuracy", seed=0).value == pytest.approx(2 / 3)


def test_the_confusion_of_other_tags_counts_what_was_given_wrongly_beside_them() -> None:
    told = judged([[0.9, 0.9], [0.9, 0.1], [0.1, 0.9]], [[1, 0], [1, 0], [0, 1]])
    assert confusion(told).tolist() == [[2, 1], [0, 1]]


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    """The same items are hard for both, and one is a little better on each tenth of them."""
    rng = np.random.default_rng(2)
    right = rng.random(400) < 0.7
    better = right.copy()
    better[::10] = True
    y = np.eye(2, dtype=np.float32)[np.zeros(400, np.int64)]
    a, b = (judged(np.where(each[:, None], [0.9, 0.1], [0.1, 0.9]), y, exclusive=True) for each in (better, right))
    gain = difference(a, b, "accuracy", seed=0)
    alone = [estimate(each, "accuracy", seed=0) for each in (a, b)]
    assert gain.value == pytest.approx(better.mean() - right.mean())
    assert gain.low is not None
    assert gain.low > 0
    assert alone[0].low is not None
    assert alone[1].high is not None
    assert alone[0].low < alone[1].high
    assert difference(b, b, "accuracy", seed=0).value == 0
