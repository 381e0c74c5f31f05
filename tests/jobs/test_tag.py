"""`recsys tag`: detection, sounds and trained heads on a small catalogue, in this process."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.artifacts import load_dataset
from jobs.embed_streams import EmbedChoice, engine_of, refused_path
from jobs.tag import earlier_tags, tag_job
from jobs.tag_heads import heads_to_run
from jobs.tag_train import calibrate_head_job, train_head_job
from jobs.tags_of import tagging_of
from jobs.validate import validate_job
from recsys.errors import ConfigError
from recsys.item_objects import OBJECTS_SCHEMA
from recsys.storage.artifact_files import read_artifact
from recsys.workspace import CONFIG_NAME, Workspace
from tests.embeddings.sounds import saved, sweep
from tests.embeddings.tagging.toy_yolox import save_toy
from tests.embeddings.tiny_tflite import TinyTflite
from tests.worlds.checkerboard import item_id, write_world
from tests.worlds.workspaces import NOW

CONFIG = """\
[encoders]
image = "fake"
text = "fake"
shard_size = 8

[tagging]
taxonomy = "taxonomy.toml"

[tagging.detection]
model = "onnx:toy.onnx"
labels = "labels.txt"
min_object_share = 0.0

[tagging.audio]
encoder = "tflite:{root}/sounds.tflite"

[tagging.speech]
model = "none"

[tagging.training]
max_epochs = 30
folds = 3
"""
TAXONOMY = """\
[tags.boat]
labels = ["ship"]
modalities = ["detection"]
threshold = 0.8

[tags.buoy]
modalities = ["detection"]
threshold = 0.7

[tags.dog]
labels = ["Dog", "Bark"]
modalities = ["audio"]

[tags.fire]
group = "kind"
modalities = ["image"]

[tags.water]
group = "kind"
modalities = ["image"]
"""
N_ITEMS = 24
BROKEN, SILENT_ID = item_id(3), item_id(5)
HEARD = [0, 1, 2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """24 items with pictures, one broken, one without; three sounds; a detector that sees two things anywhere."""
    (tmp_path / CONFIG_NAME).write_text(CONFIG.format(root=tmp_path))
    (tmp_path / "taxonomy.toml").write_text(TAXONOMY)
    (tmp_path / "labels.txt").write_text("buoy\nbottle\nship\n")
    save_toy(tmp_path / "toy.onnx")
    (tmp_path / "sounds.tflite").write_bytes(TinyTflite(frame_samples=15_600).saved())
    data = tmp_path / "data"
    write_world(data, n_items=N_ITEMS, n_users=8)
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    for number in HEARD:
        (data / f"{number}.wav").write_bytes(
            saved(sweep(1.0, 16_000, low_hz=300, seed=number), 16_000, "WAV", "PCM_16")
        )
        items[number]["audio"] = f"{number}.wav"
    (data / items[3]["image"]).write_bytes(b"\x89PNG\r\n\x1a\n and no more of it")
    del items[5]["image"]
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    workspace = Workspace.open(tmp_path)
    validate_job(workspace, now=NOW)
    return workspace


def rows_of(workspace: Workspace, head: str) -> list[dict[str, Any]]:
    rows = earlier_tags(workspace, head)
    assert rows is not None
    return list(rows.to_pylist())


def test_objects_become_tags_with_their_boxes_and_each_has_a_vector(workspace: Workspace) -> None:
    figures, exit_code = tag_job(workspace, ("detection",), now=NOW)
    assert exit_code == 1
    assert {name: figures["detection"][name] for name in ("judged", "absent", "refused", "tags", "unsure")} == {
        "judged": 22, "absent": 1, "refused": 1, "tags": 22, "unsure": 22,
    }  # fmt: skip
    boat = next(row for row in rows_of(workspace, "detection") if row["tag"] == "boat")
    assert (boat["verdict"], boat["head"], boat["by"]) == ("yes", "detection", "model")
    assert boat["confidence"] == pytest.approx(0.9, abs=0.01)
    seen = json.loads(boat["evidence"])
    assert len(seen["boxes"]) == 1
    assert all(0 <= edge <= max(seen["width"], seen["height"]) for edge in seen["boxes"][0][:4])
    buoys = [row["verdict"] for row in rows_of(workspace, "detection") if row["tag"] == "buoy"]
    assert set(buoys) == {"unsure"}  # .6, below its threshold and above half of it
    folder, _ = read_artifact(workspace.root, "detected")
    objects, vectors = pq.read_table(folder / "objects.parquet"), np.load(folder / "vectors.npy")
    assert objects.schema.names == OBJECTS_SCHEMA.names
    assert len(objects) == len(vectors) == 44
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    assert objects["object"].to_pylist()[:2] == [0, 1]
    assert pq.read_table(refused_path(workspace, "detection"))["item_id"].to_pylist() == [BROKEN]


def test_a_second_run_looks_at_nothing_and_keeps_the_times(workspace: Workspace) -> None:
    tag_job(workspace, ("detection", "audio"), now=NOW)
    before = [rows_of(workspace, head) for head in ("detection", "audio")]
    tag_job(workspace, ("detection", "audio"), now=NOW + timedelta(days=1))
    assert [rows_of(workspace, head) for head in ("detection", "audio")] == before


def test_what_a_new_item_adds_is_new_and_what_was_said_keeps_its_time(workspace: Workspace) -> None:
    tag_job(workspace, ("detection",), now=NOW)
    with (workspace.data_dir / "items.jsonl").open("a") as items:
        items.write(json.dumps({"item_id": "later", "image": f"images/{item_id(0)}.png"}) + "\n")
    later = datetime(2024, 2, 1, tzinfo=UTC)
    validate_job(workspace, now=later)
    tag_job(workspace, ("detection",), now=later)
    times = {(row["item_id"] == "later", row["at"]) for row in rows_of(workspace, "detection")}
    assert times == {(False, NOW), (True, later)}


def test_two_processes_say_what_one_says(workspace: Workspace, tmp_path: Path) -> None:
    engine = engine_of("processes", workers=2)
    tag_job(workspace, ("detection", "audio"), EmbedChoice(engine), now=NOW)
    by_two = [rows_of(workspace, head) for head in ("detection", "audio")]
    for name in ("embeddings", "tags-detection", "tags-audio", "detected"):
        (workspace.root / "artifacts" / name).rename(tmp_path / name)
    tag_job(workspace, ("detection", "audio"), now=NOW)
    assert [rows_of(workspace, head) for head in ("detection", "audio")] == by_two


def test_sounds_are_tagged_by_the_labels_that_the_taxonomy_knows(workspace: Workspace) -> None:
    figures, exit_code = tag_job(workspace, ("audio",), now=NOW)
    assert exit_code == 0
    assert (figures["audio"]["judged"], figures["audio"]["absent"]) == (3, N_ITEMS - 3)
    assert {row["tag"] for row in rows_of(workspace, "audio")} <= {"dog"}


def test_a_trained_head_says_no_of_what_it_is_sure_of_and_is_used_from_then_on(workspace: Workspace) -> None:
    assert heads_to_run(workspace, load_dataset(workspace)) == ["detection", "audio"]
    labels = workspace.root / "labels.csv"
    taught = [number for number in range(20) if number not in (3, 5)]
    said = [f"{item_id(number)},{'fire' if number % 2 == 0 else 'water'}" for number in taught]
    labels.write_text("\n".join(["item_id,tag", *said, "nobody,fire"]) + "\n")
    summary, exit_code = train_head_job(workspace, head="image", labels=labels)
    assert (exit_code, summary["refused_rows"]) == (1, 1)
    assert heads_to_run(workspace, load_dataset(workspace)) == ["image", "detection", "audio"]
    tag_job(workspace, ("image",), now=NOW)
    tagging = tagging_of(workspace, load_dataset(workspace))
    assert tagging is not None
    tags = tagging.tags
    for number in (20, 21, 22, 23):
        assert tags.tags[number] == (("fire",) if number % 2 == 0 else ("water",))
    assert set(tags.unsure[3]) == {"fire", "water"}  # its picture cannot be read
    assert (tags.tags[5], tags.unsure[5]) == ((), ())  # it has none


def test_a_classifier_is_calibrated_and_keeps_its_weights(workspace: Workspace) -> None:
    data = workspace.data_dir
    items = [json.loads(line) for line in (data / "items.jsonl").read_text().splitlines()]
    for number in range(N_ITEMS):
        sound = sweep(1.0, 16_000, low_hz=300 + 200 * (number % 2), seed=number)
        (data / f"{number}.wav").write_bytes(saved(sound, 16_000, "WAV", "PCM_16"))
        items[number]["audio"] = f"{number}.wav"
    (data / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    validate_job(workspace, now=NOW)
    labels = workspace.root / "heard.csv"
    rows = [f"{item_id(number)},dog,{number % 2}" for number in range(N_ITEMS)]
    labels.write_text("\n".join(["item_id,tag,value", *rows]) + "\n")
    first, _ = tag_job(workspace, ("audio",), now=NOW)
    summary, exit_code = calibrate_head_job(workspace, head="audio", labels=labels)
    assert exit_code == 0
    assert summary["ece_after"] <= summary["ece_before"]
    second, _ = tag_job(workspace, ("audio",), now=NOW)
    assert first["audio"]["version"] != second["audio"]["version"] == summary["version"]
    with pytest.raises(ConfigError, match="calibrated when"):
        calibrate_head_job(workspace, head="fusion", labels=labels)


def test_a_head_that_is_not_there_is_named_with_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="the heads are image, detection"):
        tag_job(workspace, ("smell",), now=NOW)
    with pytest.raises(ConfigError, match="recsys tag train --head fusion"):
        tag_job(workspace, ("fusion",), now=NOW)


def test_a_head_that_is_switched_off_is_named(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="the speech head is switched off"):
        tag_job(workspace, ("speech",), now=NOW)


def test_a_picture_that_cannot_be_read_leaves_a_head_of_pictures_and_words_unsure(workspace: Workspace) -> None:
    labels = workspace.root / "labels.csv"
    taught = [number for number in range(20) if number not in (3, 5)]
    said = [f"{item_id(number)},{'fire' if number % 2 == 0 else 'water'}" for number in taught]
    labels.write_text("\n".join(["item_id,tag", *said]) + "\n")
    train_head_job(workspace, head="image", labels=labels, with_text=True)
    figures, _ = tag_job(workspace, ("image",), now=NOW)
    assert (figures["image"]["judged"], figures["image"]["refused"]) == (N_ITEMS - 1, 1)
    tagging = tagging_of(workspace, load_dataset(workspace))
    assert tagging is not None
    tags = tagging.tags
    assert {*tags.tags[3], *tags.unsure[3]} == {"fire", "water"}


def test_a_catalogue_without_content_is_nothing_to_tag(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text('[encoders]\nimage = "fake"\ntext = "fake"\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.jsonl").write_text('{"item_id": "a", "title": "words alone"}\n')
    (tmp_path / "data" / "interactions.csv").write_text("user_id,item_id\nu,a\n")
    workspace = Workspace.open(tmp_path)
    validate_job(workspace, now=NOW)
    assert tag_job(workspace, (), now=NOW) == ({}, 0)


def test_rows_are_of_the_schema(workspace: Workspace) -> None:
    tag_job(workspace, ("detection",), now=NOW)
    table = earlier_tags(workspace, "detection")
    assert isinstance(table, pa.Table)
    assert table["at"].type == pa.timestamp("ms", "UTC")
