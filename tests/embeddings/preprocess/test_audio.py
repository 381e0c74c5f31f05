"""Spectrograms against the extractors of transformers, and what becomes of short, long and silent sounds."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from embeddings.audio_transformers import ast_preprocessing, clap_preprocessing
from embeddings.preprocess.audio import AudioPreprocessConfig, AudioPreprocessor
from embeddings.preprocess.audio_summary import AudioSummaryConfig, AudioSummaryPreprocessor
from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.mel import LogMel, MelConfig, mel_filters
from embeddings.refused import Refused
from recsys.errors import ConfigError
from recsys.manifest import canonical_json
from tests.embeddings.sounds import saved, sweep

LOG_TOLERANCE = 2e-5  # of log-mel values of up to 140: the libraries keep them in float32


@pytest.fixture(scope="module")
def ast() -> Any:
    from transformers import ASTFeatureExtractor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 128 bands are more than 257 frequencies can fill
        return ASTFeatureExtractor()


def clap(**settings: Any) -> Any:
    from transformers import ClapFeatureExtractor

    return ClapFeatureExtractor(**settings)


@pytest.mark.parametrize("n_samples", [400, 16_000, 164_079, 164_080, 200_000])
def test_ast_spectrograms_are_those_of_transformers(ast: Any, n_samples: int) -> None:
    waveform = sweep(n_samples / 16_000, 16_000).astype(np.float32)
    theirs = ast(waveform, sampling_rate=16_000, return_tensors="np")["input_values"][0]
    ours = AudioPreprocessor(ast_preprocessing(ast))(saved(waveform, 16_000))
    assert ours.dtype == np.float32
    assert ours.shape == (1_024, 128)
    np.testing.assert_allclose(ours, theirs, atol=LOG_TOLERANCE)


def test_the_ast_parity_would_notice_wrong_spectrograms(ast: Any) -> None:
    waveform = sweep(1.0, 16_000).astype(np.float32)
    theirs = ast(waveform, sampling_rate=16_000, return_tensors="np")["input_values"][0]
    config = ast_preprocessing(ast)
    for change in ({"preemphasis": 0.0}, {"remove_dc": False}, {"window": "hann_period"}, {"mel_scale": "htk"}):
        wrong = config.model_copy(update={"mel": config.mel.model_copy(update=change)})
        offset = waveform + 0.05  # only then the mean of a frame matters
        right, other = (AudioPreprocessor(each).of_waveform(offset) for each in (config, wrong))
        assert abs(right - other).max() > 50 * LOG_TOLERANCE, change
    assert abs(AudioPreprocessor(config).of_waveform(waveform[::-1]) - theirs).max() > 0.1


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("n_samples", [3, 30_000, 47_999, 48_000])
def test_clap_spectrograms_are_those_of_transformers(truncation: str, padding: str, n_samples: int) -> None:
    extractor = clap(max_length_s=1, truncation=truncation, padding=padding)
    waveform = sweep(n_samples / 48_000, 48_000).astype(np.float32)
    theirs = extractor(waveform, sampling_rate=48_000, return_tensors="np")["input_features"][0]
    ours = AudioPreprocessor(clap_preprocessing(extractor))(saved(waveform, 48_000))
    assert ours.shape == (101, 64)
    for channel in theirs:  # a short clip is the same in all four channels of "fusion"
        np.testing.assert_allclose(ours, channel, atol=LOG_TOLERANCE)


def test_of_a_long_clip_clap_hears_the_middle() -> None:
    preprocessor = AudioPreprocessor(clap_preprocessing(clap(max_length_s=1)))
    waveform = sweep(3.0, 48_000).astype(np.float32)
    middle = preprocessor.of_waveform(waveform[48_000:96_000])
    assert np.array_equal(preprocessor(saved(waveform, 48_000)), middle)


def test_extractors_that_work_in_another_way_are_refused(ast: Any) -> None:
    with pytest.raises(ConfigError, match="16000"):
        ast_preprocessing(type(ast)(sampling_rate=8_000))
    with pytest.raises(ConfigError, match="stretch"):
        clap_preprocessing(clap(padding="stretch"))


@pytest.mark.parametrize("scale", ["htk", "slaney", "kaldi"])
def test_mel_filters_cover_every_frequency_between_their_ends(scale: Any) -> None:
    config = MelConfig(
        sample_rate=16_000, frame_length=1_024, hop_length=160, fft_length=1_024, n_mels=40, low_hz=100, high_hz=7_000,
        mel_scale=scale, log="ln", floor=1e-10,
    )  # fmt: skip
    filters = mel_filters(config)
    hz = np.linspace(0, 8_000, 513)
    inside = (hz > 300) & (hz < 6_500)
    np.testing.assert_allclose(filters[inside].sum(axis=1), 1.0, atol=1e-9)  # triangles that overlap by half
    assert not filters[(hz < 100) | (hz > 7_000)].any()


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    config = AudioSummaryConfig().mel
    tone = np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    band = LogMel(config)(tone).mean(axis=0).argmax()
    assert mel_filters(config)[32, band] == mel_filters(config)[32].max()  # bin 32 of 512 at 16 kHz is 1 kHz


def test_the_description_makes_the_same_preprocessor_again(ast: Any) -> None:
    content = saved(sweep(0.5, 16_000), 16_000)
    for config in (ast_preprocessing(ast), clap_preprocessing(clap()), AudioSummaryConfig()):
        again = build_preprocessor(canonical_json(config.model_dump(mode="json")), None)
        assert again.config == config
        kind = AudioPreprocessor if isinstance(config, AudioPreprocessConfig) else AudioSummaryPreprocessor
        assert isinstance(again, kind)
        assert np.array_equal(again(content), kind(config)(content))  # type: ignore[arg-type]


def test_a_batch_is_its_features_side_by_side(ast: Any) -> None:
    preprocessor = AudioPreprocessor(ast_preprocessing(ast))
    features = [preprocessor(saved(sweep(0.3, 16_000, seed=seed), 16_000)) for seed in range(3)]
    batch = preprocessor.collate(features)
    assert {name: array.shape for name, array in batch.items()} == {"spectrogram": (3, 1_024, 128)}
    assert np.array_equal(batch["spectrogram"][2], features[2])


def test_a_text_is_no_sound(ast: Any) -> None:
    for preprocessor in (AudioPreprocessor(ast_preprocessing(ast)), AudioSummaryPreprocessor(AudioSummaryConfig())):
        with pytest.raises(Refused) as refused:
            preprocessor("la la la")
        assert refused.value.reason == "wrong_type"


def test_a_summary_does_not_depend_on_volume_or_on_silence_around_it() -> None:
    preprocessor = AudioSummaryPreprocessor(AudioSummaryConfig())
    sound = sweep(2.0, 16_000).astype(np.float32)
    summary = preprocessor.of_waveforms([sound])
    assert summary.shape == (3 * 20 + 64,)
    np.testing.assert_allclose(preprocessor.of_waveforms([sound * np.float32(0.25)]), summary, atol=1e-3)
    silence = np.zeros(16_000, np.float32)
    timbre = preprocessor.of_waveforms([np.concatenate([silence, sound, silence])])[:40]
    np.testing.assert_allclose(timbre, summary[:40], rtol=0.05, atol=1.0)


def test_without_soundfile_the_message_says_what_to_install_and_all_else_works() -> None:
    program = (
        "import sys; sys.modules['soundfile'] = None\n"
        "from embeddings.audio_encoders import load_audio\n"
        "from recsys.errors import EnvironmentProblem\n"
        "encoder = load_audio('logmel')\n"
        "try: encoder.preprocess(b'fLaC')\n"
        "except EnvironmentProblem as problem: print(problem)\n"
        "print([name for name in ('torch', 'transformers', 'onnx') if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "requirements/cpu.txt" in said
    assert said.endswith("[]\n")
