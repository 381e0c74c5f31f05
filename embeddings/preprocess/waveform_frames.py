"""Sound as models of the waveform were trained to hear it: frames of fixed length that overlap. numpy only.

Of a long file some windows are heard, evenly spread over it (`embeddings.preprocess.waveform`); each is cut into
frames, and its last frame is filled up with silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from embeddings.preprocess.audio import sound_bytes
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.waveform import Listening, SoundLimits, Waveform, read_sound
from recsys.config import Config

Frames = NDArray[np.float32]


class WaveformFramesConfig(Config):
    """What is heard of a file: up to a minute of it, all of it where it is shorter.

    Attributes:
        sample_rate: in Hz.
        frame_samples: `S`, samples of one frame: .975 s.
        hop_samples: from the start of one frame to the next: half a frame.
        window_samples: the longest stretch heard at once; 20 frames fill it to the last sample.
        windows: stretches heard of a file, evenly spread over a longer one.
    """

    kind: Literal["waveform_frames"] = "waveform_frames"
    sample_rate: PositiveInt = 16_000
    frame_samples: PositiveInt = 15_600
    hop_samples: PositiveInt = 7_800
    window_samples: PositiveInt = 163_800
    windows: PositiveInt = 6


class WaveformFramesPreprocessor:
    """Sound file bytes → float32 [F, S]: all frames of what is heard; F depends on the file."""

    tokenizer_json: str | None = None

    def __init__(self, config: WaveformFramesConfig, *, limits: SoundLimits | None = None) -> None:
        self.config = config
        self._listening = Listening(config.sample_rate, config.window_samples, config.windows, "spread")
        self._limits = limits or SoundLimits()

    def __call__(self, content: Content) -> Features:
        """In [-1, 1]: what is louder, as files of floats can be, is cut off, as a loudspeaker would.

        Raises Refused, and EnvironmentProblem where soundfile is not installed.
        """
        waveforms = read_sound(sound_bytes(content), self._listening, self._limits)
        frames = np.concatenate([frames_of(waveform, self.config) for waveform in waveforms])
        return frames.clip(-1.0, 1.0)

    def collate(self, features: Sequence[Features]) -> Batch:
        """`frames` float32 [sum of F, S], one content after the other, and `n_frames` int64 [B]: the F of each."""
        counts = np.array([len(each) for each in features], np.int64)
        return {"frames": np.concatenate(features), "n_frames": counts}


def frames_of(waveform: Waveform, config: WaveformFramesConfig) -> Frames:
    """float32 [F, S] with F = 1 + ceil(max(0, n - S) / hop): every sample is in a frame; silence fills the last one."""
    size, hop = config.frame_samples, config.hop_samples
    n_more = -(-max(0, len(waveform) - size) // hop)
    padded = np.pad(waveform, (0, max(0, size + n_more * hop - len(waveform)))).astype(np.float32)
    frames: Frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop].copy()
    return frames
