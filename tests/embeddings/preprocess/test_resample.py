"""Sample rates: against SciPy's polyphase filter, and against tones whose fate is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import resample_poly

from embeddings.preprocess.resample import kernel, margin, ratio, resample

RATES = [(44_100, 16_000), (48_000, 16_000), (16_000, 48_000), (44_100, 48_000), (8_000, 16_000), (11_025, 16_000)]


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
@pytest.mark.parametrize("n", [1, 7, 4_000])
def test_it_is_scipys_polyphase_filter_with_our_taps(from_rate: int, to_rate: int, n: int) -> None:
    samples = np.random.default_rng(n).standard_normal(n)
    up, down = ratio(from_rate, to_rate)
    assert up * from_rate == down * to_rate
    ours = resample(samples, from_rate, to_rate)
    assert len(ours) == math.ceil(n * up / down)
    np.testing.assert_allclose(ours, resample_poly(samples, up, down, window=kernel(up, down) / up), atol=1e-12)


@pytest.mark.parametrize(
    ("tone_hz", "most_db", "least_db"),
    [(100, 0.01, -0.01), (6_000, 0.01, -0.01), (8_200, -80, -300), (12_000, -80, -300)],
)
def test_tones_below_half_the_new_rate_stay_and_those_above_vanish(
    tone_hz: int, most_db: float, least_db: float
) -> None:
    at_s = np.arange(44_100) / 44_100
    heard = resample(np.sin(2 * np.pi * tone_hz * at_s), 44_100, 16_000)[2_000:-2_000]
    level_db = 20 * np.log10(heard.std() * np.sqrt(2) + 1e-12)
    assert least_db <= level_db <= most_db


def test_nothing_is_delayed() -> None:
    click = np.zeros(4_410)
    click[2_205] = 1.0  # 50 ms
    assert abs(resample(click, 44_100, 16_000)).argmax() == 800


@pytest.mark.parametrize("rate", [44_099, 383_999, 4_001, 95_999])
def test_odd_rates_cost_no_giant_filters_and_keep_their_pitch(rate: int) -> None:
    for target in (16_000, 48_000):
        up, down = ratio(rate, target)
        assert max(up, down) <= 1_000
        assert up / down == pytest.approx(target / rate, rel=1e-3)


def test_the_same_rate_changes_nothing() -> None:
    samples = np.random.default_rng(0).standard_normal(50)
    assert np.array_equal(resample(samples, 16_000, 16_000), samples)


def test_what_lies_beyond_the_margin_is_not_heard() -> None:
    samples = np.random.default_rng(0).standard_normal(8_820)
    changed = samples.copy()
    changed[4_410 + margin(44_100, 16_000) :] = 9.0
    a, b = resample(samples, 44_100, 16_000), resample(changed, 44_100, 16_000)
    np.testing.assert_allclose(a[:1_600], b[:1_600], atol=1e-12)
    assert abs(a[1_700:] - b[1_700:]).max() > 1.0
