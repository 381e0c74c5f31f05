"""A ready-made head in a world whose true probabilities are known: it is too sure of itself by a known factor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.tagging.calibrated import calibrate_on
from embeddings.tagging.heads import Head, Threshold, Vectors, label_head
from embeddings.tagging.labels import Labels
from embeddings.tagging.reliability import reliability
from recsys.errors import InputError
from recsys.manifest import EmbeddingSpace
from recsys.quarantine import QUARANTINE_SCHEMA
from recsys.tagging_config import TaggingConfig

TOO_SURE = 4.0
TAGS = ("dog", "cat", "bird")
SPACE = EmbeddingSpace(encoder="e", modality="image", weights_sha256="0", preprocessing="{}", dim=8)


def head() -> Head:
    """Its logits are `TOO_SURE` times those that the labels are drawn from; label 3 means bird as well."""
    weights = TOO_SURE * np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    return label_head(
        "image",
        "image",
        SPACE,
        weights,
        np.zeros(3, np.float32),
        model="made up",
        origin="classifier",
        labels=TAGS,
        labels_of={tag: (at,) for at, tag in enumerate(TAGS)},
        activation="sigmoid",
        thresholds={tag: Threshold(yes=0.5, unsure=0.25) for tag in TAGS},
    )


def items(n: int, seed: int) -> tuple[Vectors, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    truth = 1 / (1 + np.exp(-head().logits({"image": (x, np.ones(n, np.bool_))}) / TOO_SURE))
    return {"image": (x, np.ones(n, np.bool_))}, (rng.random((n, 3)) < truth).astype(np.float32)


def labels(ids: list[str], y: NDArray[np.float32], tags: tuple[str, ...] = TAGS) -> Labels:
    return Labels(tuple(ids), y, np.ones(y.shape, np.bool_), tags, QUARANTINE_SCHEMA.empty_table())


def calibrated(**training: Any) -> Any:
    ids = [f"i{at}" for at in range(900)]
    vectors, y = items(900, seed=2)
    config = TaggingConfig.model_validate({"training": training})
    return calibrate_on(head(), vectors, ids, labels(ids, y), None, config)


@pytest.mark.parametrize("method", ["auto", "temperature", "isotonic"])
def test_confidences_mean_what_they_say_on_items_that_nobody_labelled(method: str) -> None:
    fresh, y = items(3000, seed=3)
    before = reliability(head().confidences(fresh).ravel(), y.ravel()).ece
    found = calibrated(calibration=method)
    after = reliability(found.head.confidences(fresh).ravel(), y.ravel()).ece
    assert before > 0.1
    assert after < before / 4
    assert found.evaluation["reliability"]["after"]["ece"] < found.evaluation["reliability"]["before"]["ece"] / 4


def test_thresholds_reach_the_precision_that_was_asked_for_on_fresh_items() -> None:
    fresh, y = items(6000, seed=4)
    found = calibrated(target_precision=0.85).head
    confidence = found.confidences(fresh)
    for at, tag in enumerate(TAGS):
        given = confidence[:, at] >= found.spec.thresholds[tag].yes
        assert given.sum() > 300
        assert y[given, at].mean() > 0.83


def test_the_weights_and_what_is_not_labelled_stay_as_they_are() -> None:
    ids = [f"i{at}" for at in range(400)]
    vectors, y = items(400, seed=5)
    found = calibrate_on(head(), vectors, ids, labels(ids, y[:, :1], ("dog",)), None, TaggingConfig()).head
    assert found.weights is not head().weights
    assert all(np.array_equal(each, head().weights[name]) for name, each in found.weights.items())
    assert found.spec.thresholds["cat"] == head().spec.thresholds["cat"]
    before, after = head().confidences(vectors), found.confidences(vectors)
    assert np.array_equal(before[:, 1:], after[:, 1:])
    assert not np.array_equal(before[:, 0], after[:, 0])
    assert found.version != head().version


def test_labels_of_tags_that_the_head_does_not_give_are_refused() -> None:
    ids = [f"i{at}" for at in range(50)]
    vectors, y = items(50, seed=6)
    with pytest.raises(InputError, match="none of the labelled tags: fish"):
        calibrate_on(head(), vectors, ids, labels(ids, y[:, :1], ("fish",)), None, TaggingConfig())
