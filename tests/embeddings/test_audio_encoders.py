"""Encoders of sound by name, and what the one without weights can tell apart."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from embeddings.audio_encoders import LogMelEncoder, load_audio
from embeddings.content_encoder import OnnxContentEncoder
from embeddings.fake_encoder import FakeEncoder
from embeddings.onnx_encoder import OnnxEncoder, export
from recsys.errors import ConfigError, InvalidRequest
from tests.embeddings.sounds import saved, sweep

RATE = 16_000


def noise(seconds: float, *, seed: int) -> bytes:
    return saved(0.2 * np.random.default_rng(seed).standard_normal(int(seconds * RATE)), RATE)


def clicks(per_s: int, *, seed: int) -> bytes:
    samples = 0.005 * np.random.default_rng(seed).standard_normal(4 * RATE)
    samples[:: RATE // per_s] += 0.8
    return saved(samples, RATE)


def test_a_spec_names_its_encoder() -> None:
    assert load_audio("none") is None
    assert isinstance(load_audio("logmel"), LogMelEncoder)
    assert isinstance(load_audio("fake"), FakeEncoder)
    for unknown in ("bundled", "clap", "open_clip:ViT-B-32"):
        with pytest.raises(ConfigError, match="logmel"):
            load_audio(unknown)


def test_sounds_alike_are_near_and_others_are_not() -> None:
    encoder = LogMelEncoder()
    hiss, hiss_again, slow, slow_again, fast, tone, tone_again = encoder.encode(
        [noise(3, seed=0), noise(5, seed=1), clicks(2, seed=2), clicks(2, seed=3), clicks(16, seed=4),
         saved(sweep(3, RATE), RATE), saved(sweep(3, RATE, seed=5), 16_000, "OGG", "VORBIS")]
    )  # fmt: skip
    assert hiss @ hiss_again > 0.9 > hiss @ tone
    assert tone @ tone_again > 0.9 > tone @ slow
    assert slow @ slow_again > 0.9
    assert slow @ slow_again > slow @ fast + 0.05


def test_vectors_have_length_one_and_are_the_same_every_time() -> None:
    contents = [noise(1, seed=0), clicks(4, seed=1)]
    one, other = LogMelEncoder(), LogMelEncoder()
    assert one.space == other.space
    assert one.space.modality == "audio"
    assert np.array_equal(one.encode(contents), other.encode(contents))
    np.testing.assert_allclose(np.linalg.norm(one.encode(contents), axis=1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("spec", ["logmel", "fake"])
def test_the_onnx_form_gives_the_same_vectors(spec: str, tmp_path: Path) -> None:
    encoder = load_audio(spec)
    assert encoder is not None
    contents = [noise(1, seed=0), clicks(4, seed=1), saved(sweep(1, 8_000), 8_000)]
    export(encoder, tmp_path)
    exported = OnnxEncoder.load(tmp_path, "audio")
    assert exported.space == encoder.space
    np.testing.assert_allclose(exported.encode(contents), encoder.encode(contents), atol=1e-6)
    assert encoder.onnx_form().model == encoder.onnx_form().model


def test_a_release_carries_an_encoder_of_sound_beside_the_others(tmp_path: Path) -> None:
    files = export(LogMelEncoder(), tmp_path) | export(FakeEncoder("text"), tmp_path)
    encoder = OnnxContentEncoder.open(files)
    assert set(encoder.space_ids) == {"audio", "text"}
    sound = noise(1, seed=0)
    np.testing.assert_allclose(encoder.encode_audio(sound), LogMelEncoder().encode([sound])[0], atol=1e-6)
    with pytest.raises(InvalidRequest, match="not a sound file") as refused:
        encoder.encode_audio(b"no sound")
    assert refused.value.field == "/audio"


def test_five_neighbours_name_everyday_sounds_far_above_chance(shared_data: Path) -> None:
    """ESC-10 without the fold that asks: ten classes, so chance is 10 %."""
    folder = shared_data / "tagging" / "audio"
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[::2]
    vectors = LogMelEncoder().encode([(folder / row["file"]).read_bytes() for row in rows])
    folds = np.array([row["fold"] for row in rows])
    similarities = vectors @ vectors.T
    similarities[folds[:, None] == folds[None, :]] = -np.inf
    right = 0
    for row, nearest in zip(rows, np.argsort(-similarities, axis=1)[:, :5], strict=True):
        votes = Counter(rows[each]["label"] for each in nearest)
        right += votes.most_common(1)[0][0] == row["label"]
    assert right / len(rows) > 0.6
