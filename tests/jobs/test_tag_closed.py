"""`recsys tag`: which tags a head covers, and what it could look at: what a blocked tag stays closed by."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.artifacts import load_dataset
from jobs.tag import tag_job
from jobs.tag_runs import tag_run, taxonomy_of
from jobs.tag_train import train_head_job
from jobs.tag_vectors import encoder_specs
from jobs.tags_of import tagging_of
from jobs.validate import validate_job
from recsys.errors import ConfigError
from recsys.workspace import Workspace
from tests.embeddings.tagging.toy_yolox import save_toy
from tests.worlds.checkerboard import item_id
from tests.worlds.workspaces import write_workspace

NOW = datetime(2024, 1, 3, tzinfo=UTC)


def made(root: Path, settings: str, tags: str) -> Workspace:
    workspace, _ = write_workspace(root, more=f'[tagging]\ntaxonomy = "tags.toml"\n{settings}')
    (root / "tags.toml").write_text(tags, encoding="utf-8")
    return workspace


def test_every_tag_that_a_label_means_is_given(tmp_path: Path) -> None:
    """A knife is cutlery, and it is a weapon: whichever stands first in the file, the blocked one counts."""
    settings = '[tagging.detection]\nmodel = "onnx:toy.onnx"\nlabels = "labels.txt"\n'
    tags = '[tags.cutlery]\nlabels = ["knife", "fork"]\n[tags.weapon]\nlabels = ["gun", "knife"]\n'
    workspace = made(tmp_path, settings, tags)
    save_toy(tmp_path / "toy.onnx")
    (tmp_path / "labels.txt").write_text("fork\ngun\nknife\n")
    validate_job(workspace, now=NOW)
    tag_job(workspace, ["detection"], now=NOW)
    run = tag_run(workspace, "detection")
    assert run.covers == ("cutlery", "weapon")
    told = {(each["tag"], each["verdict"]) for each in run.tags.to_pylist()}
    assert told == {("cutlery", "yes"), ("weapon", "yes")}


def test_an_item_whose_picture_cannot_be_read_is_not_judged_by_its_words_alone(tmp_path: Path) -> None:
    workspace = made(tmp_path, "[tagging.training]\nmax_epochs = 5\nfolds = 2\n", "[tags.even]\n")
    broken = item_id(40)
    (workspace.data_dir / "images" / f"{broken}.png").write_bytes(b"no picture")
    validate_job(workspace, now=NOW)
    rows = [f"{item_id(row)},even,{int(row % 2 == 0)}" for row in range(30)]
    (tmp_path / "labels.csv").write_text("\n".join(["item_id,tag,value", *rows]))
    train_head_job(workspace, head="image", labels=tmp_path / "labels.csv", with_text=True)
    figures, exit_code = tag_job(workspace, ["image"], now=NOW)
    assert (figures["image"]["refused"], exit_code) == (1, 1)
    dataset = load_dataset(workspace)
    tagging = tagging_of(workspace, dataset)
    assert tagging is not None
    tags = tagging.tags
    row = dataset.vocabulary.row(broken)
    assert row is not None
    assert "even" in (*tags.tags[row], *tags.unsure[row])


def test_weights_beside_the_configuration_are_found_from_anywhere(tmp_path: Path) -> None:
    workspace = made(tmp_path, '[tagging.audio]\nencoder = "tflite:weights/yamnet.tflite"\n', "[tags.dog]\n")
    assert encoder_specs(workspace)["audio"] == f"tflite:{tmp_path / 'weights' / 'yamnet.tflite'}"


def test_a_name_that_is_no_head_is_told_so(tmp_path: Path) -> None:
    workspace = made(tmp_path, "", "[tags.dog]\n")
    for name in ("../image", "", "Image"):
        with pytest.raises(ConfigError, match="the heads are image, detection"):
            tag_run(workspace, name)


def test_tags_of_one_taxonomy_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    workspace = made(tmp_path, "", "[tags.nsfw]\n[tags.NSFW]\n")
    with pytest.raises(ConfigError, match="'nsfw' and 'NSFW' differ in case alone"):
        taxonomy_of(workspace)
    (tmp_path / "tags.toml").unlink()
    with pytest.raises(ConfigError, match=r"tags.toml is not there: write the taxonomy"):
        taxonomy_of(workspace)
