"""YOLOX-style files: their boxes in pixels of the upright original, whatever form they were exported in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embeddings.registry import load_encoders
from embeddings.tagging.coco import COCO_LABELS
from embeddings.tagging.detection import PREFIX, Detector, DetectorSpec, detection_spec, load_detector
from embeddings.tagging.overlap import overlap
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.errors import ConfigError, CorruptArtifact, MissingArtifact
from recsys.manifest import canonical_json
from recsys.tagging_config import DetectionConfig
from tests.embeddings.conftest import picture, saved
from tests.embeddings.preprocess.test_boxed import turned
from tests.embeddings.tagging.toy_yolox import OBJECTS, save_toy

LABELS = ("ant", "bee", "cow")


def spec_of(path: Path, **settings: Any) -> str:
    spec = DetectorSpec(**({"model": f"onnx:{path}", "labels": LABELS} | settings))
    return PREFIX + canonical_json(spec.model_dump(mode="json"))


def record_of(detector: Detector, content: bytes) -> dict[str, Any]:
    return detector.records([detector.preprocess(content)])[0]


@pytest.fixture(scope="session")
def nano(shared_data: Path) -> Detector:
    """YOLOX-nano with its real weights."""
    path = shared_data.parent / "models" / "yolox_nano.onnx"
    if not path.exists():
        pytest.skip("the optional weights are not beside the project (../shared/models/yolox_nano.onnx)")
    return load_detector(detection_spec(DetectionConfig(model=f"onnx:{path}")))


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("batch", [1, "B", 4])
def test_every_form_of_export_gives_the_same_boxes(
    tmp_path: Path, decoded: bool, logits: bool, batch: int | str
) -> None:
    path = save_toy(tmp_path / "toy.onnx", batch=batch, decoded=decoded, logits=logits)
    detector = load_detector(spec_of(path))
    features = [detector.preprocess(saved(picture(128, 96, seed=seed))) for seed in range(5)]
    records = detector.records(features)
    assert len(records) == 5
    for record in records:
        assert (record["width"], record["height"]) == (128, 96)
        for found, (label, confidence, box) in zip(record["boxes"], OBJECTS, strict=True):
            assert found["label"] == LABELS[label]
            assert found["confidence"] == pytest.approx(confidence, abs=1e-3)
            assert found["box"] == pytest.approx([2 * edge for edge in box], abs=0.01)


def test_what_is_unsure_or_one_too_many_is_left_out(tmp_path: Path) -> None:
    path = save_toy(tmp_path / "toy.onnx")
    sure = load_detector(spec_of(path, min_confidence=0.7))
    assert [each["label"] for each in record_of(sure, saved(picture(64, 64)))["boxes"]] == ["cow"]
    few = load_detector(spec_of(path, min_confidence=0.0, max_objects=1))
    assert [each["label"] for each in record_of(few, saved(picture(64, 64)))["boxes"]] == ["cow"]


def test_other_settings_make_other_records_and_so_another_space(tmp_path: Path) -> None:
    path = save_toy(tmp_path / "toy.onnx")
    moved = tmp_path / "elsewhere.onnx"
    moved.write_bytes(path.read_bytes())
    space = load_detector(spec_of(path)).space
    assert space.holds_records
    assert load_detector(spec_of(moved)).space == space
    for settings in ({"min_confidence": 0.5}, {"max_overlap": 0.6}, {"max_objects": 3}, {"labels": ("x", "y", "z")}):
        assert load_detector(spec_of(path, **settings)).space.space_id != space.space_id


def test_the_configuration_becomes_a_spec_that_workers_can_load(tmp_path: Path) -> None:
    save_toy(tmp_path / "toy.onnx")
    (tmp_path / "labels.txt").write_text("ant\nbee\n\ncow\n")
    config = DetectionConfig(model="onnx:toy.onnx", labels="labels.txt", min_confidence=0.5)
    taxonomy = Taxonomy(tags={"cow": TagDefinition(prompts=("a cow",))})
    spec = detection_spec(config, taxonomy, folder=tmp_path)
    assert json.loads(spec.removeprefix(PREFIX)) == {
        "model": f"onnx:{tmp_path}/toy.onnx",
        "labels": ["ant", "bee", "cow"],
        "prompts": {},
        "min_confidence": 0.5,
        "max_overlap": 0.45,
        "max_objects": 50,
    }
    encoder = load_encoders(image_spec=spec, text_spec="none", threads=2).image
    assert isinstance(encoder, Detector)
    assert (encoder.labels, encoder.labels_are_tags, encoder.parallel) == (LABELS, False, 2)


def test_prompts_come_from_the_tags_that_detection_may_give() -> None:
    taxonomy = Taxonomy(
        tags={
            "dog": TagDefinition(names={"en": "dog", "zh": "狗"}, prompts=("a photo of a dog", "一张狗的照片")),
            "bark": TagDefinition(modalities=("audio",)),
            "red-car": TagDefinition(names={"en": "red car"}),
        }
    )
    spec = detection_spec(DetectionConfig(model="transformers:google/owlv2-base-patch16-ensemble"), taxonomy)
    parsed = DetectorSpec.model_validate_json(spec.removeprefix(PREFIX))
    assert parsed.model == "transformers:google/owlv2-base-patch16-ensemble"
    assert parsed.prompts == {"dog": ("a photo of a dog", "一张狗的照片"), "red-car": ("red car",)}


def test_what_cannot_be_loaded_says_what_to_do(tmp_path: Path) -> None:
    path = save_toy(tmp_path / "toy.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for spec, error, says in [
        (spec_of(path, labels=("ant",)), ConfigError, "3 classes and 1 labels"),
        (spec_of(path, labels=()), ConfigError, "3 classes and 80 labels"),
        (spec_of(tmp_path / "nowhere.onnx"), MissingArtifact, "nowhere.onnx is not there"),
        (spec_of(tmp_path / "broken.onnx"), CorruptArtifact, "cannot read"),
        (spec_of(path, model="yolo"), ConfigError, "unknown detector"),
        (PREFIX + "yolox", ConfigError, "no detector"),
    ]:
        with pytest.raises(error, match=says):
            load_encoders(image_spec=spec, text_spec="none")
    with pytest.raises(ConfigError, match="sees pictures"):
        load_encoders(image_spec="none", text_spec=spec_of(path))
    for config in (DetectionConfig(), DetectionConfig(model="onnx:x", labels="nowhere.txt")):
        with pytest.raises(ConfigError):
            detection_spec(config, folder=tmp_path)


def test_coco_has_80_classes_of_different_names() -> None:
    assert len(set(COCO_LABELS)) == len(COCO_LABELS) == 80
    assert (COCO_LABELS[0], COCO_LABELS[57], COCO_LABELS[79]) == ("person", "couch", "toothbrush")


def test_real_photographs_have_the_objects_that_people_marked(nano: Detector, shared_data: Path) -> None:
    record = record_of(nano, (shared_data / "tagging" / "detection" / "8.jpg").read_bytes())
    assert (record["width"], record["height"]) == (640, 480)
    best = record["boxes"][0]
    assert best["label"] == "fire hydrant"
    assert overlap(np.array(best["box"]), np.array([[210.96, 103.07, 328.0, 407.0]]))[0] > 0.85


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_photograph_held_another_way_has_the_same_boxes_where_people_see_them(
    nano: Detector, shared_data: Path, orientation: int
) -> None:
    content = (shared_data / "tagging" / "detection" / "4.jpg").read_bytes()
    straight = record_of(nano, content)
    with Image.open(io.BytesIO(content)) as image:
        upright = image.convert("RGB")
    assert record_of(nano, turned(upright, orientation, "PNG")) == straight
    compressed = record_of(nano, turned(upright, orientation, "JPEG"))  # once more, which moves pixels a little
    for sure in [each for each in straight["boxes"] if each["confidence"] > 0.6]:
        twins = [each["box"] for each in compressed["boxes"] if each["label"] == sure["label"]]
        apart = [np.abs(np.array(box) - np.array(sure["box"])).max() for box in twins]
        assert min(apart) < 0.02 * straight["width"]
