"""Parity of image classifiers and SigLIP with transformers' own models and processors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    SiglipModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from embeddings.onnx_encoder import OnnxEncoder
from embeddings.registry import load_encoders
from embeddings.transformers_encoder import load_transformers, transformers_similarity
from embeddings.transformers_image import transformers_classifier
from recsys.errors import ConfigError
from tests.embeddings.parity import ONNX_TOLERANCE, TOLERANCE, gap, wrong_gaps

LABELS = {0: "tench, Tinca tinca", 1: "goldfish", 2: "red, white"}
SIZES = {"image_size": 64, "patch_size": 16, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
VIT = {**SIZES, "num_hidden_layers": 2, "id2label": LABELS, "label2id": {name: at for at, name in LABELS.items()}}


def uneven(model: torch.nn.Module) -> torch.nn.Module:
    """Norms and classifiers as training leaves them: a library's first ones would hide what is left out."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, (torch.nn.LayerNorm, torch.nn.Linear)) and module.bias is not None:
            torch.nn.init.normal_(module.weight, 0.3 if isinstance(module, torch.nn.LayerNorm) else 0.0, 0.2)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    return model


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit") / "vit"
    uneven(ViTForImageClassification(ViTConfig(**VIT))).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def convnext_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("convnext") / "convnext"
    config = ConvNextConfig(hidden_sizes=[8, 16, 32, 32], depths=[1, 1, 2, 1], num_labels=5)
    uneven(ConvNextForImageClassification(config)).save_pretrained(folder)
    ConvNextImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(folder)
    return folder


def their_logits(folder: Path, contents: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(what the classifier reads, what it says), by transformers alone."""
    model: Any = AutoModelForImageClassification.from_pretrained(folder).eval()
    read: list[torch.Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    opened = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.stack(processor(opened)["pixel_values"]))).logits
    return read[0].numpy(), logits.numpy()


@pytest.mark.parametrize("fixture", ["vit_folder", "convnext_folder"])
def test_a_classifiers_vectors_are_what_it_reads(
    fixture: str, request: pytest.FixtureRequest, pictures: list[bytes]
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    image, text = load_transformers(f"transformers:{folder}")
    assert text is None
    assert image is not None
    theirs, logits = their_logits(folder, pictures)
    features = [image.preprocess(content) for content in pictures]
    assert gap(image.forward(features), theirs) < TOLERANCE
    assert min(wrong_gaps(image, pictures, theirs).values()) > 100 * TOLERANCE
    assert gap(OnnxEncoder(image.onnx_form()).forward(features), theirs) < ONNX_TOLERANCE

    classifier = transformers_classifier(f"transformers:{folder}")
    assert classifier.space == image.space
    ours = image.encode(pictures) @ classifier.weights.T + classifier.bias
    lengths = np.linalg.norm(theirs, axis=1)
    assert lengths.std() / lengths.mean() < 0.1  # what the constant leaves out
    assert (ours.argmax(1) == logits.argmax(1)).all()
    assert np.abs(ours - logits).max() < 0.1 * np.abs(logits).max()


def test_each_synonym_in_a_label_names_the_class(vit_folder: Path) -> None:
    names = transformers_classifier(f"transformers:{vit_folder}").names
    assert names == (
        ("tench", "Tinca tinca", "tench, Tinca tinca"),
        ("goldfish",),
        ("red", "white", "red, white"),
    )


def test_another_classifier_is_the_same_space_and_another_activation_is_not(vit_folder: Path, tmp_path: Path) -> None:
    space = transformers_classifier(f"transformers:{vit_folder}").space
    model: Any = ViTForImageClassification.from_pretrained(vit_folder)
    torch.nn.init.zeros_(model.classifier.weight)
    model.save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    assert transformers_classifier(f"transformers:{tmp_path}").space == space
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert transformers_classifier(f"transformers:{tmp_path}").space != space


def test_a_model_without_a_classifier_sees_but_names_nothing(tmp_path: Path, pictures: list[bytes]) -> None:
    ViTModel(ViTConfig(**SIZES, num_hidden_layers=2)).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    image = load_encoders(f"transformers:{tmp_path}", "none", device="cpu", precision="fp32").image
    assert image is not None
    assert image.encode(pictures).shape == (len(pictures), 32)
    with pytest.raises(ConfigError, match="without a trained classifier"):
        transformers_classifier(f"transformers:{tmp_path}")
    with pytest.raises(ConfigError, match="encodes images only"):
        load_encoders("none", f"transformers:{tmp_path}", device="cpu")


def test_a_vector_whose_length_says_something_is_no_input_of_a_classifier(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4)
    ResNetForImageClassification(config).save_pretrained(tmp_path)
    ConvNextImageProcessorPil(size={"shortest_edge": 64}).save_pretrained(tmp_path)
    image = load_transformers(f"transformers:{tmp_path}")[0]
    assert image is not None
    assert image.encode(pictures).shape == (len(pictures), 16)
    with pytest.raises(ConfigError, match="whose length says something"):
        transformers_classifier(f"transformers:{tmp_path}")


def test_siglip_sees_and_reads_as_transformers_does(siglip_folder: Path, pictures: list[bytes]) -> None:
    image, text = load_transformers(f"transformers:{siglip_folder}")
    assert image is not None
    assert text is not None
    model = SiglipModel.from_pretrained(siglip_folder).eval()
    processor = AutoImageProcessor.from_pretrained(siglip_folder, backend="pil")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(siglip_folder / "tokenizer.json"), pad_token="</s>")
    words = ["a red film", "dogs", "a blue film about two dogs"]
    with torch.inference_mode():
        opened = [Image.open(io.BytesIO(content)) for content in pictures]
        pixels = torch.from_numpy(np.stack(processor(opened)["pixel_values"]))
        ids = tokenizer(words, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
        their_images = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
        their_texts = model.get_text_features(input_ids=ids).pooler_output.numpy()
    assert gap(image.forward([image.preprocess(content) for content in pictures]), their_images) < TOLERANCE
    assert gap(text.forward([text.preprocess(word) for word in words]), their_texts) < TOLERANCE
    assert min(wrong_gaps(image, pictures, their_images).values()) > 100 * TOLERANCE
    assert gap(text.forward([text.preprocess(word.upper() + "!") for word in words]), their_texts) < TOLERANCE
    for encoder, contents in ((image, pictures), (text, words)):
        features = [encoder.preprocess(content) for content in contents]
        assert gap(OnnxEncoder(encoder.onnx_form()).forward(features), encoder.forward(features)) < ONNX_TOLERANCE
    scale, bias = transformers_similarity(f"transformers:{siglip_folder}")
    assert scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert bias == pytest.approx(float(model.logit_bias.detach()))


def test_what_compares_nothing_has_no_similarity(vit_folder: Path) -> None:
    with pytest.raises(ConfigError, match="does not compare"):
        transformers_similarity(f"transformers:{vit_folder}")
