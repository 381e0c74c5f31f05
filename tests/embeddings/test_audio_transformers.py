"""Parity with transformers' own AST and CLAP: small seeded weights, saved in the library's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    ASTModel,
    AutoTokenizer,
    ClapAudioModelWithProjection,
    ClapFeatureExtractor,
    ClapModel,
)

from embeddings.audio_encoders import load_audio
from embeddings.audio_transformers import load_audio_transformer
from embeddings.onnx_encoder import OnnxEncoder
from embeddings.transformers_encoder import load_transformers
from recsys.errors import ConfigError, WeightsUnavailable
from tests.embeddings.parity import ONNX_TOLERANCE, TOLERANCE, gap
from tests.embeddings.sounds import saved, sweep
from tests.embeddings.tiny_audio import CLAP_HZ, save_ast, save_clap, seeded

WAVEFORMS = [sweep(n / CLAP_HZ, CLAP_HZ, seed=n).astype(np.float32) for n in (500, 3_000, 7_999, 8_000)]
TEXTS = ["a red film", "two dogs , a blue dog .", "film " * 60]


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ast") / "tiny"
    save_ast(folder)
    return folder


@pytest.fixture(scope="module", params=["plain", "fused"])
def clap_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clap") / "tiny"
    save_clap(folder, fused=request.param == "fused")
    return folder


def test_ast_vectors_are_those_of_transformers(ast_folder: Path) -> None:
    encoder = load_audio(f"transformers:{ast_folder}")
    assert encoder is not None
    model, extractor = ASTModel.from_pretrained(ast_folder).eval(), ASTFeatureExtractor.from_pretrained(ast_folder)
    waveforms = [sweep(n / 16_000, 16_000, seed=n).astype(np.float32) for n in (400, 5_000, 10_480, 30_000)]
    with torch.inference_mode():
        inputs = extractor(waveforms, sampling_rate=16_000, return_tensors="pt")["input_values"]
        theirs = model(inputs).pooler_output.numpy()
    features = [encoder.preprocess(saved(waveform, 16_000)) for waveform in waveforms]
    assert gap(encoder.forward(features), theirs) < TOLERANCE
    backwards = [np.ascontiguousarray(each[::-1]) for each in features]
    assert gap(encoder.forward(backwards), theirs) > 100 * TOLERANCE
    exported = OnnxEncoder(encoder.onnx_form())
    for batch in (features, features[:1], features[1:3]):
        assert gap(exported.forward(batch), encoder.forward(batch)) < ONNX_TOLERANCE


def test_a_classifier_lends_its_body(ast_folder: Path, tmp_path: Path) -> None:
    config = ASTConfig.from_pretrained(ast_folder)
    whole = seeded(ASTForAudioClassification(config))
    whole.save_pretrained(tmp_path)
    ASTFeatureExtractor.from_pretrained(ast_folder).save_pretrained(tmp_path)
    encoder = load_audio(f"transformers:{tmp_path}")
    assert encoder is not None
    features = encoder.preprocess(saved(sweep(0.5, 16_000), 16_000))
    with torch.inference_mode():
        theirs = whole.audio_spectrogram_transformer(torch.from_numpy(features[None])).pooler_output.numpy()
    assert gap(encoder.forward([features]), theirs) < TOLERANCE


def test_clap_sounds_are_those_of_transformers(clap_folder: Path) -> None:
    encoder = load_audio(f"transformers:{clap_folder}")
    assert encoder is not None
    model, extractor = ClapModel.from_pretrained(clap_folder).eval(), ClapFeatureExtractor.from_pretrained(clap_folder)
    inputs = extractor(WAVEFORMS, sampling_rate=CLAP_HZ, return_tensors="pt")["input_features"]
    with torch.inference_mode():
        # The extractor marks one short clip of a batch as a long one, by lot; here none is.
        short = torch.zeros(len(WAVEFORMS), 1, dtype=torch.bool)
        theirs = model.get_audio_features(input_features=inputs, is_longer=short).pooler_output.numpy()
    features = [encoder.preprocess(saved(waveform, CLAP_HZ)) for waveform in WAVEFORMS]
    assert gap(encoder.postprocess(encoder.forward(features)), theirs) < TOLERANCE
    backwards = encoder.forward([np.ascontiguousarray(each[::-1]) for each in features])
    assert gap(encoder.postprocess(backwards), theirs) > 100 * TOLERANCE
    exported = OnnxEncoder(encoder.onnx_form())
    for batch in (features, features[:1], features[1:3]):
        assert gap(exported.forward(batch), encoder.forward(batch)) < ONNX_TOLERANCE


def test_claps_words_live_in_the_space_of_its_sounds(clap_folder: Path) -> None:
    image, text = load_transformers(f"transformers:{clap_folder}")
    audio, text_of_pair = load_audio_transformer(f"transformers:{clap_folder}")
    assert image is None
    assert text_of_pair is not None
    assert text.space == text_of_pair.space
    assert (text.space.encoder, text.space.weights_sha256) == (audio.space.encoder, audio.space.weights_sha256)
    model, tokenizer = ClapModel.from_pretrained(clap_folder).eval(), AutoTokenizer.from_pretrained(clap_folder)
    with torch.inference_mode():
        inputs = tokenizer(TEXTS, return_tensors="pt", truncation=True, max_length=38, padding=True)
        theirs = model.get_text_features(**inputs).pooler_output.numpy()
    assert gap(text.encode(TEXTS), theirs) < TOLERANCE
    features = [text.preprocess(each) for each in TEXTS]
    assert gap(OnnxEncoder(text.onnx_form()).forward(features), text.forward(features)) < ONNX_TOLERANCE


def test_claps_ear_alone_gives_the_same_vectors(clap_folder: Path, tmp_path: Path) -> None:
    ClapAudioModelWithProjection.from_pretrained(clap_folder).save_pretrained(tmp_path)
    ClapFeatureExtractor.from_pretrained(clap_folder).save_pretrained(tmp_path)
    alone, text = load_audio_transformer(f"transformers:{tmp_path}")
    both, _ = load_audio_transformer(f"transformers:{clap_folder}")
    assert text is None
    content = [saved(waveform, CLAP_HZ) for waveform in WAVEFORMS]
    assert gap(alone.encode(content), both.encode(content)) < TOLERANCE


def test_a_model_that_hears_nothing_is_refused(bert_folder: Path) -> None:
    with pytest.raises(ConfigError, match="bert, which does not hear"):
        load_audio(f"transformers:{bert_folder}")


def test_weights_that_cannot_be_had_say_how_to_bring_them() -> None:
    with pytest.raises(WeightsUnavailable, match="transformers:path/to/folder"):
        load_audio("transformers:no-such-owner/no-such-model")
