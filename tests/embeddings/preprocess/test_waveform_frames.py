"""How sounds are cut into frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.waveform_frames import WaveformFramesConfig, WaveformFramesPreprocessor, frames_of
from embeddings.refused import Refused
from recsys.manifest import canonical_json
from tests.embeddings.sounds import saved, sweep

RATE = 16_000
SMALL = WaveformFramesConfig(frame_samples=4, hop_samples=2, window_samples=10, windows=2)


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, [[1, 0, 0, 0]]),
        (4, [[1, 2, 3, 4]]),
        (5, [[1, 2, 3, 4], [3, 4, 5, 0]]),
        (6, [[1, 2, 3, 4], [3, 4, 5, 6]]),
        (7, [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, 0]]),
    ],
)
def test_frames_overlap_by_half_and_the_last_one_ends_in_silence(n: int, expected: list[list[int]]) -> None:
    frames = frames_of(np.arange(1, n + 1, dtype=np.float32), SMALL)
    assert frames.dtype == np.float32
    assert frames.tolist() == expected


@given(n=st.integers(1, 200), size=st.integers(1, 20), hop=st.integers(1, 20))
def test_no_frame_holds_only_silence_and_where_they_meet_none_is_left_out(n: int, size: int, hop: int) -> None:
    config = WaveformFramesConfig(frame_samples=size, hop_samples=min(hop, size), window_samples=200)
    frames = frames_of(np.arange(1, n + 1, dtype=np.float32), config)
    assert set(range(1, n + 1)) <= set(frames.ravel().tolist())
    assert all(frame.any() for frame in frames)
    assert len(frames) == 1 or not (frames[:-1] == 0).any()


def test_what_is_louder_than_a_loudspeaker_can_be_is_cut_off() -> None:
    loud = WaveformFramesPreprocessor(WaveformFramesConfig())(saved(1e30 * sweep(1.0, RATE), RATE))
    assert set(np.unique(loud)) == {-1.0, 0.0, 1.0}  # 0: the silence behind


def test_a_clip_of_five_seconds_is_ten_frames() -> None:
    frames = WaveformFramesPreprocessor(WaveformFramesConfig())(saved(sweep(5.0, RATE), RATE))
    assert frames.shape == (10, 15_600)  # 1 + ceil((80,000 - 15,600) / 7,800)


def test_every_moment_of_a_minute_is_heard_and_of_an_hour_no_more() -> None:
    """A file of small numbers: each sample tells where it lies."""
    config = WaveformFramesConfig(sample_rate=4_000, frame_samples=40, hop_samples=20, window_samples=420, windows=6)
    preprocessor = WaveformFramesPreprocessor(config)
    minute = np.arange(1, 2_401) / 10_000
    assert set(np.round(minute * 10_000)) <= set(np.round(preprocessor(saved(minute, 4_000)).ravel() * 10_000))
    hour = np.arange(1, 144_001) / 200_000
    heard = preprocessor(saved(hour, 4_000))
    assert heard.shape == (6 * 20, 40)
    np.testing.assert_allclose(heard[[0, 20, -1], [0, 0, -1]], hour[[0, (144_000 - 420) // 5, -1]], atol=1e-6)


def test_a_batch_holds_the_frames_of_all_its_contents_and_how_many_each_has() -> None:
    preprocessor = WaveformFramesPreprocessor(SMALL)
    first, second = np.ones((3, 4), np.float32), np.zeros((1, 4), np.float32)
    batch = preprocessor.collate([first, second])
    assert batch["n_frames"].tolist() == [3, 1]
    assert np.array_equal(batch["frames"], np.concatenate([first, second]))


def test_the_description_makes_the_same_preprocessor_again() -> None:
    config = WaveformFramesConfig(windows=2)
    again = build_preprocessor(canonical_json(config.model_dump(mode="json")), None)
    assert isinstance(again, WaveformFramesPreprocessor)
    assert again.config == config
    with pytest.raises(Refused) as refused:
        again("la la la")
    assert refused.value.reason == "wrong_type"
