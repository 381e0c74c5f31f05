"""What a sound is like on the whole, without any trained weights: its timbre, how that varies, and its rhythms.

Four groups of numbers, all taken from log-mel frames 10 ms apart, in decibels below the loudest frame (so that the
volume of a recording plays no part) and no less than 80 dB below it:
- timbre: means of the mel cepstrum over the frames that are not silence (Davis & Mermelstein, 1980);
- variety: logarithms of its standard deviations over the same frames;
- pace: logarithms of the standard deviations of its change from frame to frame;
- rhythm: the modulation spectrum: how strongly each of 8 groups of bands swells and fades, at rates of 0.1 to 39 Hz in
  octaves, in decibels (after McKinney & Breebaart, 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embeddings.preprocess.audio import sound_bytes
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.mel import LogMel, MelConfig
from embeddings.preprocess.waveform import Listening, SoundLimits, Waveform, read_sound
from recsys.config import Config

Floats = NDArray[np.float64]

RANGE_DB = 80.0
SILENCE_DB = 60.0
N_BAND_GROUPS = 8
# Bins of a 1024-point transform of 100 frames a second (0.098 Hz each), in octaves.
MODULATION_EDGES = (1, 3, 6, 12, 25, 50, 100, 200, 400)
_MODULATION_POINTS = 1024
_LEAST_SPREAD = 1e-2
_LEAST_MODULATION = 1e-2


def summary_mel() -> MelConfig:
    """64 bands from 50 Hz to 8 kHz, 100 frames a second."""
    return MelConfig(
        sample_rate=16_000,
        frame_length=400,
        hop_length=160,
        fft_length=512,
        n_mels=64,
        low_hz=50.0,
        high_hz=8_000.0,
        mel_scale="htk",
        log="db",
        floor=1e-10,
    )


class AudioSummaryConfig(Config):
    """`F = 3 * n_cepstrum + 64` numbers.

    Attributes:
        mel: the spectrogram.
        n_cepstrum: coefficients of the cepstrum, the first is the level.
        window_samples: the longest stretch heard at once, at `mel.sample_rate`; at most 1024 frames.
        windows: stretches heard of a file, evenly spread over a longer one.
    """

    kind: Literal["audio_summary"] = "audio_summary"
    mel: MelConfig = summary_mel()
    n_cepstrum: int = 20
    window_samples: int = 160_000
    windows: int = 3


class AudioSummaryPreprocessor:
    """Sound file bytes → float32 [F]: timbre [C], variety [C], pace [C], rhythm [8 rates x 8 groups of bands]."""

    tokenizer_json: str | None = None

    def __init__(self, config: AudioSummaryConfig, *, limits: SoundLimits | None = None) -> None:
        self.config = config
        self._log_mel = LogMel(config.mel)
        self._cosines = _cosines(config.mel.n_mels, config.n_cepstrum)
        self._listening = Listening(config.mel.sample_rate, config.window_samples, config.windows, "spread")
        self._limits = limits or SoundLimits()

    def __call__(self, content: Content) -> Features:
        """Raises Refused, and EnvironmentProblem where soundfile is not installed."""
        return self.of_waveforms(read_sound(sound_bytes(content), self._listening, self._limits))

    def of_waveforms(self, waveforms: Sequence[Waveform]) -> Features:
        """The same for windows that are decoded already, at least one of them not silent."""
        windows = [self._log_mel.powers(waveform) for waveform in waveforms]
        levels = np.concatenate([powers.sum(axis=1) for powers in windows])
        loudest = max(float(levels.max()), self.config.mel.floor)
        heard = levels >= loudest * 10 ** (-SILENCE_DB / 10)
        decibels = [np.maximum(_decibels(powers, self.config.mel.floor, loudest), -RANGE_DB) for powers in windows]
        cepstra = [window @ self._cosines for window in decibels]
        of_sound = np.concatenate(cepstra)[heard]
        changes = np.concatenate([np.diff(cepstrum, axis=0) for cepstrum in cepstra])
        groups = [
            of_sound.mean(axis=0),
            np.log(of_sound.std(axis=0) + _LEAST_SPREAD),
            np.log(np.sqrt((changes**2).sum(axis=0) / max(1, len(changes))) + _LEAST_SPREAD),
            _rhythm(decibels).ravel(),
        ]
        return np.concatenate(groups).astype(np.float32)

    def collate(self, features: Sequence[Features]) -> Batch:
        """`features` float32 [B, F]."""
        return {"features": np.stack(features)}


def _decibels(powers: Floats, floor: float, loudest: float) -> Floats:
    decibels: Floats = 10.0 * np.log10(np.maximum(powers, floor) / loudest)
    return decibels


def _rhythm(windows: Sequence[Floats]) -> Floats:
    """float64 [8 rates, 8 groups of bands], in decibels: power of the swell at each rate, for each frame heard."""
    total, n_frames = np.zeros((_MODULATION_POINTS // 2 + 1, N_BAND_GROUPS)), 0
    for decibels in windows:
        grouped = decibels.reshape(len(decibels), N_BAND_GROUPS, -1).mean(axis=2)
        swell = grouped - grouped.mean(axis=0)
        total += np.abs(np.fft.rfft(swell, _MODULATION_POINTS, axis=0)) ** 2
        n_frames += len(decibels)
    power = np.stack([total[first:end].mean(axis=0) for first, end in pairwise(MODULATION_EDGES)]) / n_frames
    rhythm: Floats = 10.0 * np.log10(power + _LEAST_MODULATION)
    return rhythm


def _cosines(n_bands: int, n_cepstrum: int) -> Floats:
    """float64 [M, C], the DCT-II that makes a cepstrum of log-mel bands."""
    bands = np.arange(n_bands)[:, None] + 0.5
    cosines: Floats = np.cos(np.pi * bands * np.arange(n_cepstrum) / n_bands) * np.sqrt(2.0 / n_bands)
    return cosines
