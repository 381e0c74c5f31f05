"""Pictures that show nothing are told from those that show little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embeddings.quality.blank import FIGURES, blank_kind, figures_of

Pixels = NDArray[np.uint8]


def flat(*colour: int) -> Pixels:
    return np.full((64, 64, 3), colour, dtype=np.uint8)


def noisy(level: int, spread: float) -> Pixels:
    noise = np.random.default_rng(0).normal(level, spread, (64, 64, 3))
    return np.clip(np.round(noise), 0, 255).astype(np.uint8)


def with_square(side: int) -> Pixels:
    """White, with a black square in the middle."""
    picture = flat(255, 255, 255)
    start = 32 - side // 2
    picture[start : start + side, start : start + side] = 0
    return picture


def gradient() -> Pixels:
    return np.broadcast_to(np.linspace(0, 255, 64)[:, None, None], (64, 64, 3)).astype(np.uint8)


def photo() -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (flat(255, 255, 255), "constant"),
        (flat(0, 0, 0), "constant"),
        (flat(12, 200, 90), "constant"),
        (noisy(128, 1.5), "constant"),
        (with_square(8), "one_colour"),  # 64 of 4,096 pixels: a placeholder's words
        (gradient(), "no_detail"),
        (with_square(24), None),  # 14 %: a small thing on a white ground
        (photo(), None),
        (noisy(128, 40.0), None),
    ],
)
def test_the_kind_of_nothing_is_told(picture: Pixels, kind: str | None) -> None:
    assert blank_kind(figures_of(picture)) == kind


def test_figures_are_what_they_say() -> None:
    half = flat(0, 0, 0)
    half[:, :16] = 255  # a quarter white
    figures = dict(zip(FIGURES, figures_of(half).tolist(), strict=True))
    assert figures["spread"] == pytest.approx(255 * (1 / 4 * 3 / 4) ** 0.5)
    assert figures["one_colour"] == 3 / 4
    assert figures["entropy"] == pytest.approx(0.811278)  # of 1/4 and 3/4
    assert figures["edges"] == pytest.approx(1 / 63)  # one column of 63


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_no_flat_colour_ever_passes(colour: tuple[int, int, int]) -> None:
    assert blank_kind(figures_of(flat(*colour))) == "constant"
