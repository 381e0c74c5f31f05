"""From labels to a head that is ready: what is learned, what is left out, and what its figures are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.tagging.calibration import NO_CALIBRATION
from embeddings.tagging.heads import Head
from embeddings.tagging.labels import Labels
from embeddings.tagging.material import excludes
from embeddings.tagging.reliability import reliability
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from embeddings.tagging.thresholds import wilson
from embeddings.tagging.trained import OUT_OF_FOLD_SCHEMA, TrainedHead, train_on
from recsys.errors import InputError
from recsys.manifest import canonical_json
from recsys.quarantine import QUARANTINE_SCHEMA
from recsys.tagging_config import TaggingConfig, TagTrainingConfig
from tests.embeddings.tagging.worlds import classes, everywhere, multi_label, one_hot, space

Floats = NDArray[np.float32]
N, N_LABELLED = 2500, 500


def config(**training: Any) -> TaggingConfig:
    return TaggingConfig(training=TagTrainingConfig(max_epochs=25, **training))


def labels_of(ids: list[str], y: Floats, tags: tuple[str, ...], known: NDArray[np.bool_] | None = None) -> Labels:
    there = np.ones(y.shape, np.bool_) if known is None else known
    return Labels(tuple(ids), y, there, tags, QUARANTINE_SCHEMA.empty_table())


@pytest.fixture(scope="module")
def world() -> tuple[Floats, Floats, list[str]]:
    x, y, _ = multi_label(N, 24, 3, seed=11)
    return x, y, [f"item {number}" for number in range(N)]


@pytest.fixture(scope="module")
def trained(world: tuple[Floats, Floats, list[str]]) -> TrainedHead:
    """Trained with class weights, which make plain confidences too high."""
    x, y, ids = world
    labels = labels_of(ids[:N_LABELLED], y[:N_LABELLED], ("sea", "sun", "sand"))
    settings = config(class_weights=True, target_precision=0.8)
    vectors = {"image": everywhere(x)}
    return train_on(vectors, {"image": space("image", 24)}, ids, labels, None, settings, head="image")


def test_calibration_halves_the_error_on_fresh_items(
    trained: TrainedHead, world: tuple[Floats, Floats, list[str]]
) -> None:
    x, y, _ = world
    fresh, told = {"image": everywhere(x[N_LABELLED:])}, y[N_LABELLED:].ravel()
    plain = Head(trained.head.spec.model_copy(update={"calibration": NO_CALIBRATION}), trained.head.weights)
    before, after = (reliability(head.confidences(fresh).ravel(), told).ece for head in (plain, trained.head))
    assert before > 0.07
    assert after < before / 2
    reported = trained.evaluation["reliability"]
    assert reported["before"]["ece"] == pytest.approx(before, abs=0.04)
    assert reported["after"]["ece"] < reported["before"]["ece"]


def test_thresholds_keep_their_precision_on_fresh_items(
    trained: TrainedHead, world: tuple[Floats, Floats, list[str]]
) -> None:
    x, y, _ = world
    confidence = trained.head.confidences({"image": everywhere(x[N_LABELLED:])})
    for at, tag in enumerate(trained.head.spec.tags):
        chosen = trained.evaluation["thresholds"][tag]
        given = confidence[:, at] >= np.float32(trained.head.spec.thresholds[tag].yes)
        assert chosen["origin"] == "held_out" or not given.any()
        if given.any():
            assert wilson(int(y[N_LABELLED:, at][given].sum()), int(given.sum()))[1] >= 0.8


def test_the_figures_are_those_of_fresh_items(trained: TrainedHead, world: tuple[Floats, Floats, list[str]]) -> None:
    from sklearn.metrics import average_precision_score

    x, y, _ = world
    confidence = trained.head.confidences({"image": everywhere(x[N_LABELLED:])})
    for at, row in enumerate(trained.evaluation["figures"]["by_tag"]):
        fresh = average_precision_score(y[N_LABELLED:, at], confidence[:, at])
        assert row["ap"]["low"] - 0.05 < fresh < row["ap"]["high"] + 0.05


def test_a_head_that_was_saved_says_the_same(
    trained: TrainedHead, world: tuple[Floats, Floats, list[str]], tmp_path: Path
) -> None:
    trained.head.save(tmp_path)
    again = Head.load(tmp_path)
    vectors = {"image": everywhere(world[0][:50])}
    np.testing.assert_array_equal(again.confidences(vectors), trained.head.confidences(vectors))
    assert again.version == trained.head.version


def test_every_labelled_pair_has_a_confidence_out_of_fold(trained: TrainedHead) -> None:
    assert trained.out_of_fold.schema == OUT_OF_FOLD_SCHEMA
    assert len(trained.out_of_fold) == N_LABELLED * 3
    assert set(trained.out_of_fold["item_id"].to_pylist()) == {f"item {number}" for number in range(N_LABELLED)}


def test_the_evaluation_is_json(trained: TrainedHead) -> None:
    assert canonical_json(trained.evaluation)
    assert canonical_json(trained.head.spec.metrics)
    assert sum(fold["n_items"] for fold in trained.evaluation["by_fold"]) == N_LABELLED


def test_tags_of_one_group_are_told_apart_and_counted_as_such() -> None:
    x, of = classes(240, 3, 12, spread=1.0, seed=12)
    ids = [f"i{number}" for number in range(240)]
    taxonomy = Taxonomy(tags={tag: TagDefinition(group="kind", threshold=0.4) for tag in ("dog", "cat", "bird")})
    labels = labels_of(ids, one_hot(of, 3), ("dog", "cat", "bird"))
    folds = {item_id: number % 3 for number, item_id in enumerate(ids)}
    spaces = {"audio": space("audio", 12)}
    found = train_on({"audio": everywhere(x)}, spaces, ids, labels, taxonomy, config(), head="audio", folds=folds)
    assert found.head.spec.activation == "softmax"
    assert found.evaluation["figures"]["accuracy"]["value"] > 0.9
    assert np.trace(found.evaluation["figures"]["confusion"]["counts"]) > 0.9 * 240
    assert [fold["n_items"] for fold in found.evaluation["by_fold"]] == [80, 80, 80]
    assert {each["origin"] for each in found.evaluation["thresholds"].values()} == {"taxonomy"}
    assert found.head.spec.thresholds["dog"].yes == 0.4


@pytest.mark.parametrize(
    ("y", "known", "group", "expected"),
    [
        ([[1, 0], [0, 1]], None, "", True),  # each item has one
        ([[1, 0], [1, 1]], None, "", False),
        ([[1, 0], [0, 0]], None, "", False),
        ([[1, 0], [0, 0]], None, "kind", False),  # an item has none of the group
        ([[1, 0], [0, 1]], [[1, 0], [0, 1]], "", False),  # what else they have nobody said
        ([[1, 0], [0, 0]], [[1, 1], [1, 0]], "kind", True),
    ],
)
def test_tags_exclude_each_other_where_every_item_has_one(y: Any, known: Any, group: str, expected: bool) -> None:
    taxonomy = Taxonomy(tags={tag: TagDefinition(group=group) for tag in ("a", "b")})
    y = np.array(y, np.float32)
    there = np.ones(y.shape, np.bool_) if known is None else np.array(known, np.bool_)
    assert excludes(y, there, ("a", "b"), taxonomy) is expected


def test_items_without_vectors_and_tags_without_items_are_left_out() -> None:
    x, y, _ = multi_label(80, 8, 2, seed=13)
    ids = [f"i{number}" for number in range(80)]
    rare = np.zeros((80, 1), np.float32)
    rare[0] = 1
    present = np.arange(80) >= 10
    labels = labels_of(
        [*ids, "gone"], np.vstack([np.hstack([y, rare]), np.ones((1, 3))]).astype(np.float32), ("a", "b", "rare")
    )
    vectors = {"image": (x, present), "audio": (x, np.zeros(80, np.bool_))}
    spaces = {"image": space("image", 8), "audio": space("audio", 8)}
    found = train_on(vectors, spaces, ids, labels, None, config(folds=3), head="fusion")
    assert found.head.spec.tags == ("a", "b")
    assert [each["tag"] for each in found.evaluation["left_out"]] == ["rare"]
    assert found.evaluation["n_labelled"] == 70
    assert list(found.head.spec.spaces) == ["image"]  # no labelled item has a sound


def test_too_few_labels_are_refused_with_what_to_do() -> None:
    x, y, _ = multi_label(5, 8, 2, seed=14)
    ids = [f"i{number}" for number in range(5)]
    with pytest.raises(InputError, match="label 10 at least"):
        train_on(
            {"image": everywhere(x)},
            {"image": space("image", 8)},
            ids,
            labels_of(ids, y, ("a", "b")),
            None,
            config(),
            head="image",
        )
    nothing = {"image": (x, np.zeros(5, np.bool_))}
    with pytest.raises(InputError, match="nothing to learn from"):
        train_on(
            nothing, {"image": space("image", 8)}, ids, labels_of(ids, y, ("a", "b")), None, config(), head="image"
        )


def test_pseudo_labels_that_do_not_help_are_reported_and_not_used() -> None:
    x, y, _ = multi_label(300, 16, 2, seed=15)
    ids = [f"i{number}" for number in range(300)]
    labels = labels_of(ids[:100], y[:100], ("a", "b"))
    vectors, spaces = {"image": everywhere(x)}, {"image": space("image", 16)}
    plain, with_them = (
        train_on(vectors, spaces, ids, labels, None, config(folds=3, pseudo_confidence=sure), head="image")
        for sure in (0.0, 0.95)
    )
    assert plain.evaluation["pseudo_labels"] is None
    decision = with_them.evaluation["pseudo_labels"]
    assert decision["kept"] is False
    assert decision["measure"] == "macro_ap"
    np.testing.assert_array_equal(plain.head.weights["project.image"], with_them.head.weights["project.image"])
