"""Which parts of a sound file are heard, in every format; and what becomes of broken and hostile ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.preprocess.waveform import Listening, SoundLimits, read_sound, window_starts
from embeddings.refused import Refused
from tests.embeddings.sounds import saved, sweep

RATE = 16_000
SECOND = Listening(RATE, RATE)
FORMATS = [
    ("WAV", "PCM_16", 2e-4),
    ("WAV", "PCM_U8", 2e-2),
    ("WAV", "PCM_24", 1e-5),
    ("WAV", "FLOAT", 1e-6),
    ("WAV", "ULAW", 3e-2),
    ("WAVEX", "PCM_16", 2e-4),
    ("RF64", "PCM_16", 2e-4),
    ("FLAC", "PCM_16", 2e-4),
    ("OGG", "VORBIS", 0.15),
    ("OGG", "OPUS", 0.15),
    ("MP3", "MPEG_LAYER_III", 0.15),
]


def reason(content: bytes, listening: Listening = SECOND, limits: SoundLimits | None = None) -> str:
    with pytest.raises(Refused) as refused:
        read_sound(content, listening, limits or SoundLimits())
    assert str(refused.value)
    return refused.value.reason


@pytest.mark.parametrize(("file_format", "coding", "tolerance"), FORMATS)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_every_format_is_heard_as_it_was_saved(
    file_format: str, coding: str, tolerance: float, n_channels: int
) -> None:
    samples = sweep(0.8, RATE)
    [heard] = read_sound(saved(samples, RATE, file_format, coding, n_channels), SECOND)
    assert heard.dtype == np.float32
    if tolerance < 0.1:
        assert heard.shape == samples.shape
        np.testing.assert_allclose(heard, samples, atol=tolerance)
    else:  # a lossy coder changes phases and pads: the spectrum is what people hear
        ours, theirs = (abs(np.fft.rfft(each, 2 * RATE)) for each in (heard, samples))
        assert np.corrcoef(ours, theirs)[0, 1] > 1 - tolerance


def test_channels_are_averaged() -> None:
    left, right = sweep(0.5, RATE), sweep(0.5, RATE, low_hz=900, seed=1)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([left, right], axis=1), RATE, format="WAV", subtype="FLOAT")
    [heard] = read_sound(buffer.getvalue(), SECOND)
    np.testing.assert_allclose(heard, (left + right) / 2, atol=1e-6)


def test_another_rate_becomes_the_encoders() -> None:
    samples = sweep(0.5, 44_100)
    [heard] = read_sound(saved(samples, 44_100), SECOND)
    assert len(heard) == 8_000
    np.testing.assert_allclose(heard[200:-200], sweep_at(RATE)[200 : 8_000 - 200], atol=0.1)


def sweep_at(rate: int) -> np.ndarray:
    n = int(0.5 * rate)
    at_s = np.arange(n) / rate
    return 0.3 * np.sin(2 * np.pi * (200 * at_s + 2_800 * at_s**2)) * np.linspace(0.3, 1.0, n)


@pytest.mark.parametrize(
    ("n_frames", "windows", "place", "expected"),
    [
        (50, 1, "start", ([0], 50)),
        (250, 1, "start", ([0], 100)),
        (250, 1, "centre", ([75], 100)),
        (250, 3, "spread", ([0, 83, 166], 84)),  # end to end: 84 + 84 + 84 >= 250
        (300, 3, "spread", ([0, 100, 200], 100)),
        (1_000, 3, "spread", ([0, 450, 900], 100)),
        (100, 3, "spread", ([0], 100)),
    ],
)
def test_windows_lie_where_they_are_said_to(
    n_frames: int, windows: int, place: str, expected: tuple[list[int], int]
) -> None:
    assert window_starts(n_frames, 100, windows, place) == expected  # type: ignore[arg-type]


@given(
    n_frames=st.integers(1, 10_000),
    window=st.integers(1, 500),
    windows=st.integers(1, 6),
    place=st.sampled_from(["start", "centre", "spread"]),
)
def test_windows_stay_inside_the_file_and_hold_it_whole_where_they_can(
    n_frames: int, window: int, windows: int, place: str
) -> None:
    starts, length = window_starts(n_frames, window, windows, place)  # type: ignore[arg-type]
    assert 1 <= length <= window
    assert all(0 <= start <= n_frames - length for start in starts)
    if n_frames <= windows * window:
        heard = np.zeros(n_frames, np.bool_)
        for start in starts:
            heard[start : start + length] = True
        assert heard.all()


@pytest.mark.parametrize("file_format", ["WAV", "FLAC", "OGG", "MP3"])
def test_of_a_long_file_the_windows_are_what_is_there(file_format: str) -> None:
    """Each second of seven has its own tone; windows in the first, fourth and last one hear theirs."""
    tones_hz = [300, 500, 700, 900, 1_100, 1_300, 1_500]
    seconds = [0.4 * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE) for hz in tones_hz]
    content = saved(np.concatenate(seconds), RATE, file_format, None)
    heard = read_sound(content, Listening(RATE, RATE // 2, 3, "spread"))
    loudest = [abs(np.fft.rfft(window)).argmax() * 2 for window in heard]
    assert loudest == [300, 900, 1_500]  # from 0 s, 3.25 s and 6.5 s
    [middle] = read_sound(content, Listening(RATE, RATE // 2, place="centre"))
    assert abs(np.fft.rfft(middle)).argmax() * 2 == 900


def test_a_window_of_another_rate_is_the_same_part_of_the_whole() -> None:
    samples = sweep(2.0, 44_100)
    content = saved(samples, 44_100)
    [whole] = read_sound(content, Listening(RATE, 4 * RATE))
    [start] = read_sound(content, Listening(RATE, RATE))
    np.testing.assert_allclose(start, whole[:RATE], atol=1e-5)


def test_what_is_no_sound_is_refused_with_its_reason() -> None:
    good = saved(sweep(0.5, RATE), RATE, "WAV", "PCM_16")
    assert reason(b"") == "empty"
    assert reason(b"\x89PNG\r\n\x1a\n" + good) == "unknown_format"
    assert reason(b"plain words") == "unknown_format"
    assert reason(b"fLaC") == "damaged"
    assert reason(b"RIFF\x00\x00\x00\x00WAVE") == "damaged"
    assert reason(b"ID3" + bytes(200)) == "damaged"
    assert reason(saved(sweep(0.5, RATE), RATE, "WAV", "IMA_ADPCM")) == "unknown_format"
    assert reason(good[:-2_000]) == "damaged"
    assert reason(saved(np.empty(0), RATE)) == "empty"
    assert reason(saved(np.zeros(RATE), RATE)) == "empty"  # digital silence says nothing of an item
    assert reason(saved(np.array([0.1, np.nan, 0.2]), RATE)) == "not_finite"
    assert reason(saved(np.array([0.1, np.inf, 0.2]), RATE)) == "not_finite"


def test_more_than_the_limits_is_refused() -> None:
    content = saved(sweep(0.5, RATE), RATE, "WAV", "PCM_16", 2)
    assert reason(content, limits=SoundLimits(max_bytes=1_000)) == "too_large"
    assert reason(content, limits=SoundLimits(max_seconds=0.4)) == "too_long"
    assert reason(content, limits=SoundLimits(max_channels=1)) == "unknown_format"
    assert reason(content, limits=SoundLimits(max_sample_rate=8_000)) == "unknown_format"
    assert reason(content, limits=SoundLimits(min_sample_rate=20_000)) == "unknown_format"
    assert len(read_sound(content, SECOND, SoundLimits(max_bytes=len(content), max_seconds=0.5, max_channels=2))) == 1


@pytest.mark.parametrize("file_format", ["FLAC", "MP3"])
def test_a_file_that_breaks_off_is_refused_like_half_a_picture(file_format: str) -> None:
    content = saved(sweep(3.0, RATE), RATE, file_format, None)
    assert reason(content[: len(content) // 2], Listening(RATE, 4 * RATE)) == "damaged"


def test_a_flac_stream_that_does_not_know_its_length_is_heard_from_its_start() -> None:
    samples = sweep(3.0, RATE)
    content = bytearray(saved(samples, RATE, "FLAC", "PCM_16"))
    # STREAMINFO begins at byte 8; the number of samples is the last 36 bits of its bytes 10 to 17. 0 = unknown.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    heard = read_sound(bytes(content), Listening(RATE, RATE, 2, "spread"))
    np.testing.assert_allclose(np.concatenate(heard), samples[: 2 * RATE], atol=2e-4)


FUZZED = {name: saved(sweep(0.4, 8_000), 8_000, name, None) for name in ("WAV", "FLAC", "OGG", "MP3")}


@settings(max_examples=120, deadline=None)
@given(data=st.data(), file_format=st.sampled_from(sorted(FUZZED)))
def test_hostile_bytes_are_refused_or_heard_and_never_anything_else(data: st.DataObject, file_format: str) -> None:
    content = bytearray(FUZZED[file_format])
    for _ in range(data.draw(st.integers(1, 20))):
        reach = len(content) if data.draw(st.booleans()) else 120  # headers are the dangerous part
        content[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    try:
        windows = read_sound(bytes(content), Listening(8_000, 4_000, 3, "spread"))
    except Refused:
        return
    assert 1 <= len(windows) <= 3
    assert all(0 < len(window) <= 4_000 and np.isfinite(window).all() for window in windows)
