"""From records to tags with evidence, and to objects that are embedded by themselves."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from embeddings.embed import EmbedOptions, embed_items
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import ReaderSpec, WorkerSpec, open_contents
from embeddings.fake_encoder import FakeEncoder
from embeddings.refused import Refused
from embeddings.registry import load_encoders
from embeddings.stored import gather
from embeddings.tagging.crops import CropEncoder, CropReader, crop_reference
from embeddings.tagging.heads import Threshold
from embeddings.tagging.objects import CROPS_SCHEMA, object_items, objects_table, tags_of_records
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.errors import ConfigError
from recsys.tagging_config import DetectionConfig
from recsys.tags import TAGS_SCHEMA
from tests.embeddings.conftest import picture, saved
from tests.worlds.in_memory_reader import InMemoryReader

NOW = datetime(2025, 5, 4, 3, 2, 1, tzinfo=UTC)
TAXONOMY = Taxonomy(
    tags={
        "dog": TagDefinition(labels=("Dog", "wolf")),
        "car": TagDefinition(),
        "sofa": TagDefinition(labels=("couch",)),
        "bark": TagDefinition(labels=("dog",), modalities=("audio",)),
    }
)
LABELS = ("car", "couch", "dog", "wolf", "spoon")
THRESHOLDS = {tag: Threshold(yes=0.6, unsure=0.4) for tag in ("dog", "car", "sofa", "bark")}


def record(*boxes: tuple[str, float, list[float]], size: tuple[int, int] = (200, 100)) -> dict[str, Any]:
    listed = [{"label": label, "confidence": sure, "box": box} for label, sure, box in boxes]
    return {"width": size[0], "height": size[1], "boxes": listed}


def tags(records: list[dict[str, Any] | None], **changed: Any) -> pa.Table:
    settings = {"labels": LABELS, "labels_are_tags": False, "model": "yolox", "version": "abc", "now": NOW} | changed
    item_ids = [f"item-{at}" for at in range(len(records))]
    return tags_of_records(item_ids, records, TAXONOMY, THRESHOLDS, **settings)


def test_a_tag_is_as_sure_as_its_surest_object_and_shows_them_all() -> None:
    seen = record(("wolf", 0.7, [1, 2, 3, 4.5]), ("dog", 0.5, [5, 6, 7, 8]), ("couch", 0.45, [0, 0, 9, 9]))
    table = tags([None, seen, record(("spoon", 0.9, [0, 0, 1, 1]), ("car", 0.3, [0, 0, 1, 1]))])
    assert table.schema == TAGS_SCHEMA
    dog, sofa = table.to_pylist()
    assert json.loads(dog.pop("evidence")) == {
        "width": 200,
        "height": 100,
        "boxes": [[1, 2, 3, 4.5, 0.7], [5, 6, 7, 8, 0.5]],
    }
    assert dog.pop("confidence") == pytest.approx(0.7)
    assert dog == {
        "item_id": "item-1",
        "tag": "dog",
        "verdict": "yes",
        "by": "model",
        "head": "detection",
        "model": "yolox",
        "version": "abc",
        "at": NOW,
    }
    assert (sofa["tag"], sofa["verdict"]) == ("sofa", "unsure")


def test_labels_that_are_tags_mean_themselves() -> None:
    table = tags([record(("sofa", 0.9, [0, 0, 1, 1]), ("bark", 0.9, [0, 0, 1, 1]))], labels=("sofa", "bark"))
    assert table.num_rows == 0  # a model's own label sofa is not among the tag's
    table = tags(
        [record(("sofa", 0.9, [0, 0, 1, 1]), ("bark", 0.9, [0, 0, 1, 1]))],
        labels=("sofa", "bark"),
        labels_are_tags=True,
    )
    assert table["tag"].to_pylist() == ["sofa"]  # and bark is not a matter of pictures


def test_objects_that_are_large_enough_are_listed_with_the_item_they_belong_to() -> None:
    first = record(("dog", 0.9, [10.2, 20.7, 60.1, 70.0]), ("spoon", 0.5, [0, 0, 5, 5]))
    second = record(("car", 0.8, [150.5, 50.5, 200.0, 100.0]))
    table = objects_table(
        ["a#xyxy=1", "b", "c", "d"],
        ["a.png", None, "c.png", "d.png"],
        [first, first, None, second],
        DetectionConfig(min_object_share=0.01),
    )
    assert table.schema == CROPS_SCHEMA
    assert table["item_id"].to_pylist() == ["a#xyxy=1", "d"]
    assert table["box"].to_pylist() == [[10, 20, 61, 70], [150, 50, 200, 100]]
    assert list(object_items(table)) == [("0", "a.png#xyxy=10,20,61,70"), ("1", "d.png#xyxy=150,50,200,100")]
    everything = objects_table(["a"], ["a.png"], [first], DetectionConfig(min_object_share=0.0))
    assert everything["label"].to_pylist() == ["dog", "spoon"]


def test_a_reader_of_objects_reads_the_picture_and_names_the_box() -> None:
    inner = InMemoryReader({"a#1.png": b"bytes"}, {"a#1.png": "stamp"})
    reader = CropReader(inner)
    reference = crop_reference("a#1.png", (1, 2, 30, 40))
    assert reader.read(reference) == b"xyxy=1,2,30,40\nbytes"
    assert reader.stamp(reference) == "stamp"
    for wrong in ("a#1.png", "a#1.png#xyxy=1,2,3", "a#1.png#xyxy=1,2,3,-4", "nowhere#xyxy=1,2,3,4"):
        with pytest.raises(Refused) as refused:
            reader.read(wrong)
        assert refused.value.reason == "not_found"


def test_the_object_of_a_picture_is_near_the_same_object_by_itself(tmp_path: Path) -> None:
    red, blue = picture(60, 60, seed=1), picture(60, 60, seed=2).transpose(2)  # turned: other colours elsewhere
    scene = picture(200, 100, seed=3)
    scene.paste(red, (10, 20))
    scene.paste(blue, (120, 30))
    reader = CropReader(InMemoryReader({"scene.png": saved(scene), "bad.png": saved(scene)[:500]}))
    table = objects_table(
        ["scene", "bad"],
        ["scene.png", "bad.png"],
        [record(("dog", 0.9, [10, 20, 70, 80]), ("car", 0.8, [120, 30, 180, 90]))] * 2,
        DetectionConfig(),
    )
    encoder = load_encoders("crop:fake", "none").image
    assert isinstance(encoder, CropEncoder)
    options = EmbedOptions(shard_size=2, decode_workers=1)
    report = embed_items(object_items(table), encoder, tmp_path, reader=reader, options=options)
    assert (report.n_encoded, [each.item_id for each in report.rejected]) == (2, ["2", "3"])
    again = embed_items(object_items(table), encoder, tmp_path, reader=reader, options=options)
    assert (again.n_encoded, again.n_reused) == (0, 4)
    vectors, present = gather(tmp_path, encoder.space, [report.content_hashes[key] for key in ("0", "1")])
    assert present.all()
    query = FakeEncoder("image").encode([saved(red)])[0]
    assert query @ vectors[0] > query @ vectors[1] + 0.05
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-3)


def test_objects_live_in_a_space_of_their_own_that_a_release_could_carry() -> None:
    encoder = load_encoders("crop:fake", "none").image
    assert encoder is not None
    inner = FakeEncoder("image")
    assert encoder.space.space_id != inner.space.space_id
    assert (encoder.space.dim, encoder.space.encoder) == (inner.space.dim, "crop:fake")
    assert encoder.onnx_form().space == encoder.space
    for spec in ("crop:none", "crop:detection:{}", "crop:crop:fake"):
        with pytest.raises(ConfigError):
            load_encoders(spec, "none")


def test_workers_of_an_engine_read_objects_too(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(saved(picture(90, 60)))
    encoder = load_encoders("crop:fake", "none").image
    assert encoder is not None
    spec = WorkerSpec(
        modality="image",
        encoder="crop:fake",
        device="cpu",
        space=encoder.space,
        store_dir=tmp_path / "store",
        reader=ReaderSpec(items_folder=folder, cache_folder=tmp_path / "fetched"),
        decode_workers=1,
    )
    reader = open_contents(spec)
    assert isinstance(copy.deepcopy(reader), CropReader)  # as it travels to other machines
    items = [("0", "a.png#xyxy=0,0,30,30"), ("1", "a.png#xyxy=30,30,90,60"), ("2", "a.png")]
    report = embed_with_engine(items, spec, EngineConfig(kind="processes", workers=1), reader=reader)
    assert (report.n_encoded, [each.item_id for each in report.rejected]) == (2, ["2"])
