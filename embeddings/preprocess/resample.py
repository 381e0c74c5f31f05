"""From one sample rate to another: a windowed sinc in polyphase form, numpy only."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

ZERO_CROSSINGS = 32
# The pass band ends, and the stop band (-90 dB) begins, around this share of the lower Nyquist frequency.
CUTOFF = 0.91
KAISER_BETA = 9.0
MAX_FACTOR = 1000

Samples = NDArray[np.float64]


def resample(samples: NDArray[np.floating], from_rate: int, to_rate: int) -> Samples:
    """float64 [ceil(n * up / down)], without delay; silence is taken to lie before and after.

    `n` samples are read as if `up` samples were made of each, filtered, and every `down`-th kept; the polyphase form
    computes just those (`ratio` tells up and down).
    """
    up, down = ratio(from_rate, to_rate)
    if up == down:
        return samples.astype(np.float64)
    n_out = -(-len(samples) * up // down)
    phases = _phases(up, down)
    taps = phases.shape[1]
    half = ZERO_CROSSINGS * max(up, down)
    last = (half + (n_out - 1) * down) // up
    padded = np.zeros(last + taps)
    padded[taps - 1 : taps - 1 + len(samples)] = samples[: last + 1]
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    out = np.empty(n_out)
    for first in range(min(up, n_out)):
        start, phase = divmod(half + first * down, up)
        n = -(-(n_out - first) // up)
        out[first::up] = windows[start::down][:n] @ phases[phase]
    return out


def ratio(from_rate: int, to_rate: int) -> tuple[int, int]:
    """(up, down) with up / down = to_rate / from_rate: exact for the usual rates, within 1e-3 for odd ones.

    A rate like 44,099 Hz would need a filter of millions of taps; 1e-3 is less than a fiftieth of a semitone.
    """
    wanted = Fraction(to_rate, from_rate)
    near = wanted.limit_denominator(max(1, int(MAX_FACTOR / max(Fraction(1), wanted))))
    return near.numerator, near.denominator


def margin(from_rate: int, to_rate: int) -> int:
    """How many samples on either side of a place decide what is heard there, at `from_rate`."""
    return math.ceil(ZERO_CROSSINGS * max(1.0, from_rate / to_rate))


def kernel(up: int, down: int) -> Samples:
    """float64 [2 * half + 1], the low-pass filter at the rate between, with sum `up`."""
    half = ZERO_CROSSINGS * max(up, down)
    at = np.arange(-half, half + 1) * (CUTOFF / max(up, down))
    taps = np.sinc(at) * np.kaiser(2 * half + 1, KAISER_BETA)
    whole: Samples = taps * (up / taps.sum())
    return whole


@lru_cache(maxsize=16)
def _phases(up: int, down: int) -> Samples:
    """float64 [up, taps]: row p holds every `up`-th tap from p on, backwards, so that it multiplies a window."""
    taps = kernel(up, down)
    per_phase = -(-len(taps) // up)
    padded = np.zeros(per_phase * up)
    padded[: len(taps)] = taps
    return np.ascontiguousarray(padded.reshape(per_phase, up).T[:, ::-1])
