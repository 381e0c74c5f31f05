"""Detectors of transformers: the boxes that transformers itself gives, in pixels of the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from embeddings.registry import load_encoders
from embeddings.tagging.detection import PREFIX, Detector, DetectorSpec, load_detector
from recsys.errors import ConfigError, WeightsUnavailable
from recsys.manifest import canonical_json
from tests.embeddings.conftest import picture, saved
from tests.embeddings.tagging.tiny_detectors import (
    save_detr,
    save_grounding_dino,
    save_owlv2,
    save_rt_detr,
    save_yolos,
)

PROMPTS = {"cat": ("a cat",), "dog": ("a red dog", "two dog"), "blue-cat": ("blue cat",)}
EVERYTHING = {"min_confidence": 0.0, "max_overlap": 1.0, "max_objects": 1000}


def spec_of(folder: Path, **settings: Any) -> str:
    spec = DetectorSpec(**({"model": f"transformers:{folder}", **EVERYTHING} | settings))
    return PREFIX + canonical_json(spec.model_dump(mode="json"))


def pictures() -> list[Image.Image]:
    """Wide, high, and of a size that scales to whole pixels in every way: 3 : 2."""
    return [picture(192, 128, seed=0), picture(96, 144, seed=1), picture(210, 140, seed=2)]


def boxes_of(record: dict[str, Any]) -> np.ndarray:
    return np.array([each["box"] for each in record["boxes"]])


def same_boxes(record: dict[str, Any], boxes: np.ndarray, scores: np.ndarray, labels: list[str]) -> None:
    """Whatever order equal confidences have; records round to .01 px and .0001."""
    theirs = [
        (label, *np.clip(box, 0, [record["width"], record["height"]] * 2), score)
        for label, box, score in zip(labels, boxes, scores, strict=True)
    ]
    theirs = [
        each for each in theirs if round(each[1], 2) < round(each[3], 2) and round(each[2], 2) < round(each[4], 2)
    ]
    ours = [(each["label"], *each["box"], each["confidence"]) for each in record["boxes"]]
    assert len(ours) == len(theirs) > 3
    left = list(theirs)
    for mine in ours:
        near = [
            each
            for each in left
            if each[0] == mine[0]
            and np.abs(np.array(each[1:5]) - np.array(mine[1:5])).max() <= 0.0051 + 1e-3
            and abs(each[5] - mine[5]) <= 1e-4
        ]
        assert near, f"transformers has no {mine}"
        left.remove(near[0])


@pytest.mark.parametrize("save", [save_detr, save_yolos, save_rt_detr])
def test_the_detr_family_gives_the_boxes_of_transformers(save: Callable[[Path], None], tmp_path: Path) -> None:
    save(tmp_path)
    detector = load_detector(spec_of(tmp_path))
    model = transformers.AutoModelForObjectDetection.from_pretrained(tmp_path).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for image in pictures():
        [record] = detector.records([detector.preprocess(saved(image))])
        with torch.no_grad():
            outputs = model(**processor(images=image, return_tensors="pt"))
        [theirs] = processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[(image.height, image.width)]
        )
        names = [model.config.id2label[label] for label in theirs["labels"].tolist()]
        same_boxes(record, theirs["boxes"].numpy(), theirs["scores"].numpy(), names)


def test_owlv2_gives_the_boxes_of_transformers_for_the_same_pixels(tmp_path: Path) -> None:
    save_owlv2(tmp_path)
    detector = load_detector(spec_of(tmp_path, prompts=PROMPTS))
    assert (detector.labels, detector.labels_are_tags) == (("blue-cat", "cat", "dog"), True)
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(tmp_path).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    prompts = ["blue cat", "a cat", "a red dog", "two dog"]
    texts = tokenizer(prompts, padding="max_length", max_length=12, return_tensors="pt")
    for image in pictures():
        features = detector.preprocess(saved(image))
        [record] = detector.records([features])
        pixels = processor(
            images=features[:-1], do_resize=False, do_pad=False, return_tensors="pt"
        )  # its own resize blurs, and has no reason to agree to the last level
        with torch.no_grad():
            outputs = model(**texts, **pixels)
        [theirs] = processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[(image.height, image.width)]
        )
        names = [("blue-cat", "cat", "dog", "dog")[label] for label in theirs["labels"].tolist()]
        same_boxes(record, theirs["boxes"].numpy(), theirs["scores"].numpy(), names)


def test_owlv2_sees_nearly_what_transformers_shows_it(tmp_path: Path) -> None:
    save_owlv2(tmp_path)
    detector = load_detector(spec_of(tmp_path, prompts=PROMPTS))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    image = Image.fromarray(np.array(picture(48, 32)).repeat(4, axis=0).repeat(4, axis=1))  # 192 x 128 without grain
    pixels = processor(images=image, do_normalize=False, return_tensors="np")["pixel_values"][0]
    ours = detector.preprocess(saved(image))[:-1].transpose(2, 0, 1) / 255
    assert np.abs(ours - pixels).mean() < 0.02
    assert (ours[:, 64:] == 0).all()


def test_grounding_dino_gives_the_boxes_of_transformers_and_names_the_prompt(tmp_path: Path) -> None:
    save_grounding_dino(tmp_path)
    prompts = {"cat": ("a cat",), "dog": ("Red dog.",)}
    detector = load_detector(spec_of(tmp_path, prompts=prompts))
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(tmp_path).eval()
    processor = transformers.GroundingDinoProcessor(
        transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil"),
        transformers.AutoTokenizer.from_pretrained(tmp_path),
    )
    words = {"cat": slice(1, 3), "dog": slice(4, 6)}  # [CLS] a cat . red dog . [SEP]
    for image in pictures():
        [record] = detector.records([detector.preprocess(saved(image))])
        inputs = processor(images=image, text=[["a cat", "red dog"]], return_tensors="pt")
        assert inputs["input_ids"].tolist() == [[2, 5, 9, 4, 6, 8, 4, 3]]
        with torch.no_grad():
            outputs = model(**inputs)
        sizes = [(image.height, image.width)]
        [theirs] = processor.post_process_grounded_object_detection(outputs, threshold=0.0, target_sizes=sizes)
        surest = torch.stack([outputs.logits[0, :, span].sigmoid().amax(1) for span in words.values()], 1)
        names = [list(words)[label] for label in surest.argmax(1).tolist()]
        same_boxes(record, theirs["boxes"].numpy(), surest.amax(1).numpy(), names)
        assert (surest.amax(1) <= theirs["scores"] + 1e-6).all()


def test_prompts_that_do_not_fit_into_one_text_are_all_looked_for(tmp_path: Path) -> None:
    save_grounding_dino(tmp_path)
    content = saved(pictures()[0])
    prompts = {"cat": ("a cat on a red dog",), "dog": ("two blue dog of a red cat",)}  # 16 words are the most here
    alone: dict[str, list[str]] = {}
    for label, words in prompts.items():
        detector = load_detector(spec_of(tmp_path, prompts={label: words}))
        alone[label] = [str(each) for each in detector.records([detector.preprocess(content)])[0]["boxes"]]
    both = load_detector(spec_of(tmp_path, prompts=prompts))
    together = [str(each) for each in both.records([both.preprocess(content)])[0]["boxes"]]
    assert sorted(together) == sorted(alone["cat"] + alone["dog"])
    assert min(map(len, alone.values())) > 3


def test_a_picture_gets_the_same_record_whoever_its_neighbours_are(tmp_path: Path) -> None:
    save_detr(tmp_path)
    detector = load_detector(spec_of(tmp_path))
    features = [
        detector.preprocess(saved(image)) for image in [*pictures(), picture(64, 64), picture(192, 128, seed=9)]
    ]
    assert len({each.shape for each in features}) > 2
    together, alone = detector.records(features), [detector.records([each])[0] for each in features]
    for one, other in zip(together, alone, strict=True):
        assert np.abs(boxes_of(one) - boxes_of(other)).max() <= 0.011
    assert len({str(each) for each in alone}) == len(features)


def test_a_detector_that_is_told_what_to_find_asks_for_it(tmp_path: Path) -> None:
    save_owlv2(tmp_path)
    with pytest.raises(ConfigError, match="taxonomy"):
        load_detector(spec_of(tmp_path))


def test_prompts_are_part_of_the_space_only_where_they_are_read(tmp_path: Path) -> None:
    save_detr(tmp_path / "detr")
    save_owlv2(tmp_path / "owl")

    def space(folder: str, **prompts: tuple[str, ...]) -> str:
        return load_detector(spec_of(tmp_path / folder, prompts=prompts)).space.space_id

    assert space("detr", cat=("a cat",)) == space("detr", dog=("a dog",))
    assert space("owl", cat=("a cat",)) != space("owl", cat=("blue cat",))


def test_the_registry_gives_the_detector_and_leaves_it_in_torch(tmp_path: Path) -> None:
    save_detr(tmp_path)
    encoder = load_encoders(image_spec=spec_of(tmp_path), text_spec="none", device="cpu", threads=2).image
    assert isinstance(encoder, Detector)
    assert (encoder.compute, encoder.parallel, encoder.space.dim) == ("torch-fp32-cpu", 2, 0)
    with pytest.raises(ConfigError, match="jobs alone"):
        encoder.onnx_form()


def test_a_model_that_detects_nothing_is_refused(bert_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no detector"):
        load_detector(spec_of(bert_folder))
    with pytest.raises(WeightsUnavailable):
        load_detector(spec_of(tmp_path / "nowhere"))
