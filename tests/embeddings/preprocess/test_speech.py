"""Whole recordings, read block by block: the samples of the whole, for the memory of a part."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from embeddings.isolation import DecodeLimits, DecodePool, limits_of
from embeddings.isolation.limits import MIB
from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features
from embeddings.preprocess.image import ImagePreprocessConfig
from embeddings.preprocess.speech import SpeechPreprocessConfig, SpeechPreprocessor
from embeddings.preprocess.waveform import Listening, read_sound
from embeddings.refused import Refused
from recsys.config import Config
from recsys.manifest import canonical_json
from tests.embeddings.sounds import saved, sweep

RATE = 16_000
FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", None)]


def json_of(config: Config) -> str:
    return canonical_json(config.model_dump(mode="json"))


def heard(content: bytes, *, max_minutes: float = 120.0) -> Features:
    return SpeechPreprocessor(SpeechPreprocessConfig(max_minutes=max_minutes))(content)


def as_read_sound(content: bytes) -> np.ndarray:
    [waveform] = read_sound(content, Listening(RATE, window_samples=60 * RATE))
    return np.clip(np.rint(waveform.astype(np.float64) * 32_768), -32_768, 32_767)


@pytest.mark.parametrize(("file_format", "coding"), FORMATS)
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 1)])
def test_the_samples_are_those_of_reading_the_whole_at_once(
    file_format: str, coding: str | None, rate: int, channels: int
) -> None:
    content = saved(sweep(7.3, rate), rate, file_format, coding, channels)
    samples = heard(content)
    assert samples.dtype == np.int16
    whole = as_read_sound(content)
    assert len(samples) == len(whole) > 7 * RATE
    assert np.abs(samples - whole).max() <= 1


def test_an_odd_rate_is_read_without_seams() -> None:
    content = saved(sweep(6.0, 44_099), 44_099)
    whole, samples = as_read_sound(content), heard(content)
    assert abs(len(samples) - len(whole)) <= 1  # the ratio of such a rate is taken to one thousandth
    n = min(len(samples), len(whole))
    assert np.abs(samples[:n] - whole[:n]).max() <= 1


def test_what_is_louder_than_full_scale_is_clipped_and_not_wrapped_around() -> None:
    loud = 5.0 * sweep(1.0, RATE)
    samples = heard(saved(loud, RATE))
    np.testing.assert_array_equal(samples[loud > 1], 32_767)
    np.testing.assert_array_equal(samples[loud < -1], -32_768)


def test_silence_is_a_recording_in_which_nothing_is_said() -> None:
    assert not heard(saved(np.zeros(RATE), RATE)).any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"no sound at all", "unknown_format"),
        (saved(np.zeros(0), RATE), "empty"),
        (saved(np.full(RATE, np.nan), RATE), "not_finite"),
        (saved(sweep(3.0, RATE), RATE, "FLAC", "PCM_16")[:20_000], "damaged"),
        (saved(sweep(3.0, RATE), RATE)[:50_000], "damaged"),
        (saved(sweep(61.0, 4_000), 4_000), "too_long"),
    ],
    ids=["nothing", "text", "no_frames", "nan", "broken_flac", "broken_wav", "long"],
)
def test_what_is_no_recording_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        heard(content, max_minutes=1.0)
    assert refused.value.reason == reason


def test_a_header_of_ten_hours_is_refused_before_a_sample_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(*_: object, **__: object) -> None:
        raise AssertionError("the header is enough")

    monkeypatch.setattr(soundfile.SoundFile, "read", reads)
    with pytest.raises(Refused, match="36000 s") as refused:
        heard(flac_that_says(10 * 3600 * RATE))
    assert refused.value.reason == "too_long"


def test_a_file_that_does_not_say_how_long_it_is_is_heard_to_its_end_or_to_the_limit() -> None:
    content = flac_that_says(0)
    assert len(heard(content)) == 2 * RATE
    with pytest.raises(Refused, match=r"longer than the 0\.01 minutes") as refused:
        heard(content, max_minutes=0.01)
    assert refused.value.reason == "too_long"


def flac_that_says(n_frames: int) -> bytes:
    """Two seconds whose header says another length; 0 = unknown."""
    content = bytearray(saved(sweep(2.0, RATE), RATE, "FLAC", "PCM_16"))
    (old,) = struct.unpack_from(">Q", content, 18)  # STREAMINFO: rate, channels, bits, and 36 bits of length
    struct.pack_into(">Q", content, 18, old >> 36 << 36 | n_frames)
    return bytes(content)


@pytest.fixture(scope="module")
def forty_minutes() -> bytes:
    """MP3 at 44.1 kHz of one rate of bits: ten seconds' frames over and over, so that making it takes a second."""
    buffer = io.BytesIO()
    rate = {"bitrate_mode": "CONSTANT", "compression_level": 0.8}
    with soundfile.SoundFile(buffer, "w", 44_100, 2, format="MP3", **rate) as file:
        samples = sweep(10.0, 44_100)
        for start in range(0, len(samples), 10_000):
            file.write(np.repeat(samples[start : start + 10_000, None], 2, axis=1))
    content = buffer.getvalue()
    # Its first frame holds no sound, and says how many follow.
    second = content.index(content[:2], 4)
    return content[second:] * 240


@pytest.mark.slow
def test_a_long_recording_is_read_in_an_isolated_process_with_bounded_memory(forty_minutes: bytes) -> None:
    preprocessing = json_of(SpeechPreprocessConfig())
    n_bytes = 2 * 41 * 60 * RATE  # the codec adds a little to each ten seconds
    # The file, the samples, and what blocks and BLAS take; the whole as float32 would be 400 MiB.
    limits = DecodeLimits(
        cpu_s=60.0,
        wall_s=300.0,
        memory_bytes=len(forty_minutes) + n_bytes + 64 * MIB,
        content_bytes=n_bytes + MIB,
        lookahead_items=1,
    )
    with DecodePool(preprocessing, workers=1, limits=limits) as pool:
        [(_, samples)] = pool.map([("long", forty_minutes)])
        assert not isinstance(samples, Refused), samples
        assert len(samples) / RATE == pytest.approx(40 * 60, rel=0.01)


@pytest.mark.slow
def test_the_limits_of_speech_let_an_hour_through_and_those_of_other_kinds_do_not(forty_minutes: bytes) -> None:
    preprocessing = json_of(SpeechPreprocessConfig(max_minutes=60))
    with DecodePool(preprocessing, workers=1) as pool:
        [(_, samples)] = pool.map([("long", forty_minutes)])
        assert not isinstance(samples, Refused), samples
    with DecodePool(preprocessing, workers=1, limits=DecodeLimits()) as pool:
        [(_, refused)] = pool.map([("long", forty_minutes)])
        assert isinstance(refused, Refused)
        assert refused.reason == "decode_time"


def test_limits_follow_from_what_is_decoded() -> None:
    picture = ImagePreprocessConfig(size=32, resize_to=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert limits_of(json_of(picture)) == DecodeLimits()
    two_hours = limits_of(json_of(SpeechPreprocessConfig(max_minutes=120)))
    assert two_hours.content_bytes >= 2 * 120 * 60 * RATE
    assert two_hours.cpu_s > 60
    assert two_hours.lookahead_items * two_hours.content_bytes < 512 * MIB


def test_the_description_gives_the_preprocessor_back() -> None:
    built = build_preprocessor(json_of(SpeechPreprocessConfig(max_minutes=3)), None)
    assert built.config == SpeechPreprocessConfig(max_minutes=3)
    batch = built.collate([np.ones(2, np.int16), np.ones(3, np.int16)])["waveform"]
    assert batch.tolist() == [[1, 1, 0], [1, 1, 1]]


def contents(*each: bytes) -> Iterator[tuple[int, bytes]]:
    yield from enumerate(each)


def test_a_hostile_recording_harms_no_other() -> None:
    good = saved(sweep(1.0, RATE), RATE)
    with DecodePool(json_of(SpeechPreprocessConfig()), workers=1) as pool:
        done = dict(pool.map(contents(good, flac_that_says(10 * 3600 * RATE), b"RIFF____WAVE", good)))
    assert [getattr(done[n], "reason", None) for n in range(4)] == [None, "too_long", "damaged", None]
    np.testing.assert_array_equal(done[0], done[3])
