"""From the name in the configuration to the encoder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from embeddings.hub import hub_answers
from embeddings.onnx_encoder import OnnxEncoder, export
from embeddings.registry import load_encoders, load_torch_image, text_preprocessor
from recsys.errors import ConfigError, EnvironmentProblem, WeightsUnavailable


def test_none_switches_a_modality_off() -> None:
    pair = load_encoders("none", "fake")
    assert pair.image is None
    assert pair.text is not None
    assert pair.text.space.modality == "text"


def test_one_clip_gives_both_encoders_in_one_space_of_meaning(clip_folder: Path) -> None:
    spec = f"open_clip:tiny-clip/{clip_folder}/open_clip_model.safetensors"
    pair = load_encoders(spec, spec, device="cpu", precision="fp32")
    assert isinstance(pair.image, OnnxEncoder)
    assert isinstance(pair.text, OnnxEncoder)
    assert pair.aligned
    assert pair.image.space.weights_sha256 == pair.text.space.weights_sha256


def test_precision_chooses_what_computes_and_not_the_space(clip_folder: Path) -> None:
    spec = f"open_clip:{clip_folder}"
    exact = load_encoders(spec, spec, device="cpu", precision="fp32", threads=2)
    rounded = load_encoders(spec, spec, device="cpu", precision="bf16", threads=2)
    for one, other in ((exact.image, rounded.image), (exact.text, rounded.text)):
        assert one is not None
        assert other is not None
        assert one.space == other.space
        assert (one.compute, other.compute) == ("onnxruntime-fp32", "torch-bf16-cpu")


def test_the_bundled_pictures_stay_in_float32() -> None:
    image = load_encoders("bundled", "none", device="cpu", precision="bf16").image
    assert image is not None
    assert image.compute == "onnxruntime-fp32"


def test_sound_is_off_unless_it_is_named() -> None:
    assert load_encoders("fake", "fake").audio is None
    for spec in ("fake", "logmel"):
        audio = load_encoders("none", "none", spec).audio
        assert audio is not None
        assert audio.space.modality == "audio"
        assert audio.compute == "numpy-fp32"


def test_encoders_of_two_models_are_not_aligned(clip_folder: Path, bert_folder: Path) -> None:
    image = f"open_clip:tiny-clip/{clip_folder}/open_clip_model.safetensors"
    assert not load_encoders(image, f"transformers:{bert_folder}", device="cpu").aligned
    assert not load_encoders("fake", "fake").aligned


def test_a_text_model_encodes_no_images(bert_folder: Path) -> None:
    with pytest.raises(ConfigError, match="encodes text only"):
        load_encoders(f"transformers:{bert_folder}", "none", device="cpu")


def test_an_unknown_encoder_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="write bundled, fake, none"):
        load_encoders("resnet", "none", device="cpu")


@pytest.mark.parametrize("spec", ["open_clip", "fake:text", "none:", "bundled:minilm"])
def test_half_a_name_is_no_encoder(spec: str) -> None:
    with pytest.raises(ConfigError, match="unknown encoder"):
        load_encoders("none", spec, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_that_is_not_there_is_a_clear_error() -> None:
    with pytest.raises(EnvironmentProblem, match="no CUDA device"):
        load_encoders("bundled", "none", device="cuda")


def test_without_a_network_weights_by_name_fail_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(WeightsUnavailable, match="hub cannot be reached"):
        load_encoders("open_clip:ViT-B-32/laion2b_s34b_b79k", "none", device="cpu")
    assert time.monotonic() - start < 60


def test_a_hub_that_never_answers_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # 192.0.2.0/24 is reserved for documentation: packets to it are swallowed or refused.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://192.0.2.1")
    monkeypatch.setattr("embeddings.hub.getproxies", dict)
    start = time.monotonic()
    assert not hub_answers(timeout_s=0.5)
    assert time.monotonic() - start < 5


def test_the_bundled_tokenizer_counts_what_it_cannot_spell() -> None:
    preprocessor = text_preprocessor("bundled")
    assert preprocessor is not None
    assert preprocessor.unknown_share(["A dog's life"]) == 0.0
    assert preprocessor.unknown_share(["肖申克的救赎 电影"]) > 0.5
    assert text_preprocessor("fake") is None


def test_the_bundled_pictures_come_at_any_side_each_in_a_space_of_its_own(pictures: list[bytes]) -> None:
    spaces = []
    for spec, side in (("bundled", 192), ("bundled@192", 192), ("bundled@64", 64)):
        image = load_encoders(spec, "none", device="cpu").image
        assert image is not None
        assert image.preprocess(pictures[0]).shape == (side, side, 3)
        assert image.encode(pictures[:1]).shape == (1, 1280)
        spaces.append(image.space)
    assert spaces[0] == spaces[1]
    assert spaces[0] != spaces[2]
    with pytest.raises(ConfigError, match="sees pictures only"):
        load_encoders("none", "bundled@64", device="cpu")


@pytest.mark.parametrize("spec", ["bundled@", "bundled@abc", "bundled@8", "bundled@4096", "bundled@-224", "bundled@²"])
def test_a_side_that_cannot_be_says_how_to_write_one(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"write bundled, or bundled@<side in pixels>, from 64 to 1024"):
        load_encoders(spec, "none", device="cpu")


def test_an_exported_pair_is_loaded_by_its_folder_without_torchs_form(clip_folder: Path, tmp_path: Path) -> None:
    spec = f"open_clip:{clip_folder}"
    pair = load_encoders(spec, spec, device="cpu", precision="fp32")
    assert pair.image is not None
    assert pair.text is not None
    export(pair.image, tmp_path)
    export(pair.text, tmp_path)
    again = load_encoders(f"onnx:{tmp_path}", f"onnx:{tmp_path}", threads=2)
    assert isinstance(again.image, OnnxEncoder)
    assert isinstance(again.text, OnnxEncoder)
    assert (again.image.space, again.text.space) == (pair.image.space, pair.text.space)
    assert again.aligned
    assert (again.image.parallel, again.text.parallel) == (2, 2)
    assert (again.text.encode(["two dogs"]) == pair.text.encode(["two dogs"])).all()
    with pytest.raises(ConfigError, match="cannot be trained on"):
        load_torch_image(f"onnx:{tmp_path}")
