"""Sounds that can be told from one another: sweeps and noises, as files of every format that is read."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float64]
BLOCK = 10_000  # libsndfile's Vorbis encoder takes a long block onto its stack


def sweep(seconds: float, rate: int, *, low_hz: float = 200.0, high_hz: float = 3_000.0, seed: int = 0) -> Samples:
    """float64 [n], a tone that rises, over soft noise, growing louder: backwards it is another sound."""
    n = int(seconds * rate)
    at_s = np.arange(n) / rate
    tone = np.sin(2 * np.pi * (low_hz * at_s + (high_hz - low_hz) * at_s**2 / (2 * seconds)))
    noise = np.random.default_rng(seed).standard_normal(n)
    return (0.3 * tone + 0.02 * noise) * np.linspace(0.3, 1.0, n)


def saved(
    samples: Samples, rate: int, file_format: str = "WAV", coding: str | None = "FLOAT", n_channels: int = 1
) -> bytes:
    """The samples as a file, the same on every channel."""
    columns = np.repeat(samples[:, None], n_channels, axis=1)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, n_channels, format=file_format, subtype=coding) as file:
        for start in range(0, len(columns), BLOCK):
            file.write(columns[start : start + BLOCK])
    return buffer.getvalue()
