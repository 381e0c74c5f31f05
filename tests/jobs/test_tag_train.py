"""`recsys tag train`, from a workspace's vectors and a labels file to the artifact."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from embeddings.tagging.heads import Head
from embeddings.tagging.labels import read_labels
from embeddings.tagging.trained import OUT_OF_FOLD_SCHEMA
from jobs.artifacts import load_dataset
from jobs.embed import embed_dataset
from jobs.tag_runs import taxonomy_of
from jobs.tag_train import EVALUATION, OUT_OF_FOLD, QUARANTINE, train_head, train_head_job
from jobs.validate import validate_job
from recsys.errors import ConfigError, InputError, MissingArtifact
from recsys.storage.artifact_files import read_artifact, verify
from recsys.workspace import Workspace
from tests.worlds.workspaces import write_workspace

NOW = datetime(2024, 1, 3, tzinfo=UTC)
SETTINGS = """
[tagging]
taxonomy = "tags.toml"

[tagging.training]
max_epochs = 10
folds = 3
"""
TAGS = '[tags.even]\nnames = { en = "even" }\n[tags.third]\n[tags.loud]\nmodalities = ["audio"]\n'


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("tagging")
    workspace, _ = write_workspace(root, more=SETTINGS)
    (root / "tags.toml").write_text(TAGS, encoding="utf-8")
    validate_job(workspace, now=NOW)
    return workspace


@pytest.fixture(scope="module")
def labels_file(workspace: Workspace) -> Path:
    """Even items are even, every third one is third; one row names no item, and one no tag of an image head."""
    ids = load_dataset(workspace).items["item_id"].to_pylist()
    rows = [
        f"{item},{tag}" for at, item in enumerate(ids) for tag, every in (("Even", 2), ("third", 3)) if at % every == 0
    ]
    rows += [f"{item}," for at, item in enumerate(ids) if at % 2 and at % 3]
    path = workspace.root / "labels.csv"
    path.write_text("\n".join(["item_id,tag", *rows, "nobody,even", f"{ids[0]},loud"]) + "\n", encoding="utf-8")
    return path


def vectors_that_tell(workspace: Workspace) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The picture's vector, with what the labels say in its first numbers."""
    dataset = load_dataset(workspace)
    pictures = embed_dataset(workspace, dataset).content.modality("image")
    at = np.arange(len(dataset.items))
    told = np.array(pictures.vectors)
    told[:, 0], told[:, 1] = at % 2 == 0, at % 3 == 0
    return told.astype(np.float32), pictures.present


def trained(workspace: Workspace, labels_file: Path) -> dict[str, object]:
    dataset = load_dataset(workspace)
    content = embed_dataset(workspace, dataset).content
    taxonomy = taxonomy_of(workspace)
    labels = read_labels(labels_file, item_ids=set(dataset.vocabulary.item_ids), taxonomy=taxonomy, head="image")
    spaces = {"image": content.spaces["image"]}
    return train_head(
        workspace, dataset, {"image": vectors_that_tell(workspace)}, spaces, labels, taxonomy, head="image"
    )


def test_the_artifact_holds_the_head_its_figures_and_what_was_refused(workspace: Workspace, labels_file: Path) -> None:
    summary = trained(workspace, labels_file)
    folder, manifest = verify(workspace.root, "head-image")
    assert sorted(manifest.files) == sorted(["head.json", "weights.safetensors", EVALUATION, OUT_OF_FOLD, QUARANTINE])
    head = Head.load(folder)
    assert head.spec.name == "image"
    assert head.spec.tags == ("even", "third")
    assert head.version == summary["version"]
    head.require({"image": head.spec.spaces["image"]})
    figures = json.loads((folder / EVALUATION).read_text())["figures"]
    assert min(row["ap"]["value"] for row in figures["by_tag"]) > 0.95
    out_of_fold = pq.read_table(folder / OUT_OF_FOLD)
    assert out_of_fold.schema.equals(OUT_OF_FOLD_SCHEMA)
    assert len(out_of_fold) == 2 * figures["n_items"]
    refused = pq.read_table(folder / QUARANTINE).to_pylist()
    assert [row["reason"] for row in refused] == ["unknown_item", "unknown_tag"]


def test_what_was_trained_already_is_not_trained_again(workspace: Workspace, labels_file: Path) -> None:
    first = trained(workspace, labels_file)
    written = (read_artifact(workspace.root, "head-image")[0] / EVALUATION).stat().st_mtime_ns
    assert trained(workspace, labels_file) == first
    assert (read_artifact(workspace.root, "head-image")[0] / EVALUATION).stat().st_mtime_ns == written


def test_the_table_says_what_became_of_each_tag(
    workspace: Workspace, labels_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(workspace, labels_file)
    said = capsys.readouterr().out
    assert "even" in said
    assert "calibration error" in said
    assert "held out" in said


def test_a_head_that_nobody_trains_is_refused(workspace: Workspace, labels_file: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of image, audio, text, fusion"):
        train_head_job(workspace, head="speech", labels=labels_file)


def test_labels_that_are_not_there_are_refused_before_anything_is_embedded(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="is not there"):
        train_head_job(workspace, head="image", labels=workspace.root / "none.csv")


def test_the_error_of_a_missing_head_names_the_command(workspace: Workspace) -> None:
    with pytest.raises(MissingArtifact, match="recsys tag train"):
        read_artifact(workspace.root, "head-audio")
