"""Parity with open_clip's own transform, tokenizer, encode_image and encode_text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from embeddings.onnx_encoder import OnnxEncoder
from embeddings.open_clip_encoder import load_open_clip
from embeddings.torch_encoder import TorchEncoder
from recsys.errors import ConfigError, WeightsUnavailable
from tests.embeddings.parity import ONNX_TOLERANCE, TOLERANCE, gap, wrong_gaps
from tests.embeddings.preprocess.test_text import ODD


@pytest.fixture(scope="module")
def their_model(clip_folder: Path) -> Any:
    return open_clip.create_model("tiny-clip", pretrained=str(clip_folder / "open_clip_model.safetensors")).eval()


@pytest.fixture(scope="module")
def pair(clip_folder: Path) -> tuple[TorchEncoder, TorchEncoder]:
    return load_open_clip(f"open_clip:tiny-clip/{clip_folder}/open_clip_model.safetensors")


def their_images(model: Any, contents: list[bytes]) -> np.ndarray:
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    with torch.inference_mode():
        pixels = torch.stack([transform(Image.open(io.BytesIO(content))) for content in contents])
        return model.encode_image(pixels).numpy()


def their_texts(model: Any, texts: list[str]) -> np.ndarray:
    with torch.inference_mode():
        return model.encode_text(open_clip.get_tokenizer("tiny-clip")(texts)).numpy()


def normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_images_are_encoded_as_open_clip_encodes_them(
    pair: tuple[TorchEncoder, TorchEncoder], their_model: Any, pictures: list[bytes]
) -> None:
    theirs = their_images(their_model, pictures)
    ours = pair[0].forward([pair[0].preprocess(content) for content in pictures])
    assert gap(ours, theirs) < TOLERANCE
    assert abs(pair[0].encode(pictures) - normalised(theirs)).max() < TOLERANCE
    assert min(wrong_gaps(pair[0], pictures, theirs).values()) > 100 * TOLERANCE


def test_texts_are_encoded_as_open_clip_encodes_them(pair: tuple[TorchEncoder, TorchEncoder], their_model: Any) -> None:
    theirs = their_texts(their_model, ODD)
    assert gap(pair[1].forward([pair[1].preprocess(text) for text in ODD]), theirs) < TOLERANCE
    assert abs(pair[1].encode(ODD) - normalised(theirs)).max() < TOLERANCE
    assert gap(their_texts(their_model, [text[:-1] + "?" for text in ODD]), theirs) > 100 * TOLERANCE


def test_the_onnx_form_gives_the_same_vectors(pair: tuple[TorchEncoder, TorchEncoder], pictures: list[bytes]) -> None:
    for encoder, contents in zip(pair, (pictures, ODD), strict=True):
        exported = OnnxEncoder(encoder.onnx_form())
        for batch in (contents, contents[:1], contents[1:3]):
            features = [encoder.preprocess(content) for content in batch]
            assert gap(exported.forward(features), encoder.forward(features)) < ONNX_TOLERANCE
        assert exported.space == encoder.space


def test_image_and_text_share_weights_but_not_a_space(pair: tuple[TorchEncoder, TorchEncoder]) -> None:
    image, text = pair[0].space, pair[1].space
    assert image.weights_sha256 == text.weights_sha256
    assert image.dim == text.dim == 32
    assert image.space_id != text.space_id


def test_a_folder_in_open_clips_format_is_read_too(
    pair: tuple[TorchEncoder, TorchEncoder], clip_folder: Path, pictures: list[bytes]
) -> None:
    from_folder = load_open_clip(f"open_clip:{clip_folder}")
    assert from_folder[0].space.weights_sha256 == pair[0].space.weights_sha256
    assert abs(from_folder[0].encode(pictures) - pair[0].encode(pictures)).max() < TOLERANCE


def test_weights_that_cannot_be_had_say_how_to_bring_them() -> None:
    with pytest.raises(WeightsUnavailable, match=r"open_clip:ViT-B-32/path/to/open_clip_model\.safetensors"):
        load_open_clip("open_clip:ViT-B-32/laion2b_s34b_b79k")
    with pytest.raises(WeightsUnavailable, match="neither a file nor a pretrained tag"):
        load_open_clip("open_clip:ViT-B-32/no_such_tag")


def test_an_unknown_architecture_is_a_usage_error() -> None:
    with pytest.raises(ConfigError, match="no architecture 'ViT-Z-99'"):
        load_open_clip("open_clip:ViT-Z-99/openai")
    with pytest.raises(ConfigError, match="write open_clip:<arch>/"):
        load_open_clip("open_clip:ViT-B-32")
