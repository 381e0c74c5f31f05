"""Log-mel spectrograms as three libraries make them: Kaldi's filter banks, torchaudio's and librosa's. numpy only.

Letters: T frames, K = fft_length / 2 + 1 frequencies, M mel bands.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recsys.config import Config

MelScale = Literal["htk", "kaldi", "slaney"]
Floats = NDArray[np.float64]

# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz = 15 mel, then 27 mel for each factor of 6.4.
_LINEAR_END_HZ = 1000.0
_LINEAR_END_MEL = 15.0
_LOG_STEP = np.log(6.4) / 27.0


class MelConfig(Config):
    """How a waveform becomes a log-mel spectrogram; each setting changes the numbers that a model sees.

    Attributes:
        sample_rate: of the waveform, in Hz.
        frame_length, hop_length, fft_length: in samples; frames are padded with zeros to `fft_length`.
        window: Hann, one period of it, or with both of its zeros.
        centred: frame t is centred on sample t * hop_length, the ends mirrored; else it begins there.
        remove_dc: each frame less its mean.
        preemphasis: each sample less this share of the one before, frame by frame; 0 = none.
        n_mels: `M`.
        low_hz, high_hz: where the first band begins and the last one ends.
        mel_scale: "kaldi" draws its triangles in mel, the others in Hz.
        area_normalised: bands are weighted to have the same area, not the same peak.
        log: natural, or 10 * log10 (decibels).
        floor: powers below it are raised to it.
    """

    sample_rate: int
    frame_length: int
    hop_length: int
    fft_length: int
    window: Literal["hann_period", "hann_symmetric"] = "hann_period"
    centred: bool = False
    remove_dc: bool = False
    preemphasis: float = 0.0
    n_mels: int
    low_hz: float
    high_hz: float
    mel_scale: MelScale
    area_normalised: bool = False
    log: Literal["ln", "db"]
    floor: float


class LogMel:
    """Waveform → float32 [T, M]; safe from many threads."""

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        self._filters = mel_filters(config)
        self._window = _hann(config)
        # numpy's linear algebra takes its working memory at its first large product, once and for good: a decode
        # worker must not find it in the share of the first sound.
        self.powers(np.zeros(config.sample_rate))

    def __call__(self, samples: NDArray[np.floating]) -> NDArray[np.float32]:
        """`samples` is float [n] in [-1, 1], with n >= 1; fewer than one frame are filled up with silence."""
        powers = np.maximum(self.powers(samples), self.config.floor)
        logs = np.log(powers) if self.config.log == "ln" else 10.0 * np.log10(powers)
        return logs.astype(np.float32)

    def powers(self, samples: NDArray[np.floating]) -> Floats:
        """float64 [T, M], the power in each band, without floor and logarithm."""
        config = self.config
        waveform = samples.astype(np.float64)
        if config.centred:
            waveform = np.pad(waveform, config.frame_length // 2, mode="reflect")
        if len(waveform) < config.frame_length:
            waveform = np.pad(waveform, (0, config.frame_length - len(waveform)))
        frames = np.lib.stride_tricks.sliding_window_view(waveform, config.frame_length)[:: config.hop_length]
        if config.remove_dc:
            frames = frames - frames.mean(axis=1, keepdims=True)
        if config.preemphasis:
            # The first sample has none before it and is taken to follow itself.
            before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
            frames = frames - config.preemphasis * before
        spectrum = np.fft.rfft(frames * self._window, config.fft_length, axis=1)
        powers: Floats = (spectrum.real**2 + spectrum.imag**2) @ self._filters
        return powers


def mel_filters(config: MelConfig) -> Floats:
    """float64 [K, M], triangles that rise from the centre before and fall to the centre behind."""
    frequencies = np.linspace(0.0, config.sample_rate / 2, config.fft_length // 2 + 1)
    low, high = (_to_mel(np.array([hz]), config.mel_scale)[0] for hz in (config.low_hz, config.high_hz))
    mels = np.linspace(low, high, config.n_mels + 2)
    corners = _to_hz(mels, config.mel_scale)
    at, corner = (_to_mel(frequencies, "kaldi"), mels) if config.mel_scale == "kaldi" else (frequencies, corners)
    rising = (at[:, None] - corner[None, :-2]) / np.diff(corner)[:-1]
    falling = (corner[None, 2:] - at[:, None]) / np.diff(corner)[1:]
    filters: Floats = np.maximum(0.0, np.minimum(rising, falling))
    if config.area_normalised:
        filters = filters * (2.0 / (corners[2:] - corners[:-2]))
    return filters


def _hann(config: MelConfig) -> Floats:
    if config.window == "hann_symmetric":
        return np.hanning(config.frame_length)
    return np.hanning(config.frame_length + 1)[:-1]


def _to_mel(hz: Floats, scale: MelScale) -> Floats:
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log1p(hz / 700.0)
    above = np.maximum(hz, _LINEAR_END_HZ)
    linear = hz * (_LINEAR_END_MEL / _LINEAR_END_HZ)
    return np.where(hz < _LINEAR_END_HZ, linear, _LINEAR_END_MEL + np.log(above / _LINEAR_END_HZ) / _LOG_STEP)


def _to_hz(mel: Floats, scale: MelScale) -> Floats:
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * np.expm1(mel / 1127.0)
    above = np.maximum(mel, _LINEAR_END_MEL)
    linear = mel * (_LINEAR_END_HZ / _LINEAR_END_MEL)
    return np.where(mel < _LINEAR_END_MEL, linear, _LINEAR_END_HZ * np.exp((above - _LINEAR_END_MEL) * _LOG_STEP))
