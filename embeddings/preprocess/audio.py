"""Sound as audio transformers were trained to hear it: one window of log-mel frames. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.mel import LogMel, MelConfig
from embeddings.preprocess.waveform import Listening, SoundLimits, Waveform, read_sound
from embeddings.refused import Refused
from recsys.config import Config


class AudioPreprocessConfig(Config):
    """How one library prepares a sound.

    Attributes:
        mel: the spectrogram.
        window_samples: the longest part of a file that is heard, at `mel.sample_rate`.
        place: where it lies in a longer file.
        n_frames: `T`, frames that the model sees; longer spectrograms are cut at the end.
        fill: what a shorter sound is filled up with: "zero_frames" behind its spectrogram; or before it, its samples
            as often as they fit and then silence ("repeat_then_silence"), over and over ("repeat"), or "silence".
        mean, std: the model sees (log-mel - mean) / std.
    """

    kind: Literal["audio"] = "audio"
    mel: MelConfig
    window_samples: int
    place: Literal["start", "centre"]
    n_frames: int
    fill: Literal["zero_frames", "repeat_then_silence", "repeat", "silence"]
    mean: float = 0.0
    std: float = 1.0


class AudioPreprocessor:
    """Sound file bytes → float32 [T, M]."""

    tokenizer_json: str | None = None

    def __init__(self, config: AudioPreprocessConfig, *, limits: SoundLimits | None = None) -> None:
        self.config = config
        self._log_mel = LogMel(config.mel)
        self._listening = Listening(config.mel.sample_rate, config.window_samples, place=config.place)
        self._limits = limits or SoundLimits()

    def __call__(self, content: Content) -> Features:
        """Raises Refused, and EnvironmentProblem where soundfile is not installed."""
        [waveform] = read_sound(sound_bytes(content), self._listening, self._limits)
        return self.of_waveform(waveform)

    def of_waveform(self, waveform: Waveform) -> Features:
        """The same for a window that is decoded already: float32 [n], 1 <= n <= `window_samples`."""
        config = self.config
        frames = self._log_mel(self._filled(waveform))[: config.n_frames]
        frames = np.pad(frames, ((0, config.n_frames - len(frames)), (0, 0)))
        standard: NDArray[np.float32] = (frames - np.float32(config.mean)) / np.float32(config.std)
        return standard

    def collate(self, features: Sequence[Features]) -> Batch:
        """`spectrogram` float32 [B, T, M]."""
        return {"spectrogram": np.stack(features)}

    def _filled(self, waveform: Waveform) -> Waveform:
        wanted, fill = self.config.window_samples, self.config.fill
        if fill == "zero_frames" or len(waveform) >= wanted:
            return waveform
        if fill == "repeat":
            return np.resize(waveform, wanted)
        if fill == "repeat_then_silence":
            waveform = np.tile(waveform, wanted // len(waveform))
        return np.pad(waveform, (0, wanted - len(waveform)))


def sound_bytes(content: Content) -> bytes:
    """Raises Refused where the content is a text."""
    if isinstance(content, str):
        raise Refused("wrong_type", "a sound must be given as its file's bytes, not as text")
    return content
