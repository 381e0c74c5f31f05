"""Pillow's resize, but for its last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embeddings.preprocess.resize import FirstAxis, pillows_first_axis, resized_crop
from tests.embeddings.conftest import picture

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("size", "new_size", "corner"),
    [
        ((97, 71), (45, 33), (6, 0)),
        ((71, 97), (33, 45), (0, 6)),
        ((300, 200), (33, 33), (0, 0)),
        ((20, 15), (60, 45), (13, 6)),
        ((40, 400), (33, 330), (0, 148)),
        ((33, 33), (33, 33), (0, 0)),
    ],
)
def test_pixels_are_those_of_pillow_within_one_level(
    size: tuple[int, int], new_size: tuple[int, int], corner: tuple[int, int], interpolation: str
) -> None:
    image, side = picture(*size), 33
    left, top = corner
    theirs = np.asarray(image.resize(new_size, RESAMPLING[interpolation]).crop((left, top, left + side, top + side)))
    scale = (size[0] / new_size[0], size[1] / new_size[1])
    first = pillows_first_axis(size, new_size)
    ours = resized_crop(np.asarray(image), scale, corner, side, interpolation, round_after=first)
    assert ours.shape == (side, side, 3)
    assert ours.flags.c_contiguous
    difference = abs(ours.astype(int) - theirs)
    assert difference.max() <= 1
    # Bilinear weights are short fractions: many values are halves, and float32 falls on either side.
    assert (difference > 0).mean() < (1e-3 if interpolation == "bicubic" else 1e-2)


@pytest.mark.parametrize("size", [(97, 71), (71, 97), (300, 200)])
def test_rounding_once_stays_within_the_roundings_it_leaves_out(size: tuple[int, int]) -> None:
    pixels, scale = np.asarray(picture(*size)), (min(size) / 33, min(size) / 33)
    once, across, down = (
        resized_crop(pixels, scale, (3, 2), 30, "bicubic", round_after=axis).astype(int)
        for axis in (None, "across", "down")
    )
    assert 0.02 < (once != across).mean() < 0.25
    assert 0.02 < (once != down).mean() < 0.25
    assert abs(once - across).mean() < 0.25


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    side=st.integers(1, 40),
    axis=st.sampled_from([None, "across", "down"]),
)
def test_one_colour_stays_that_colour_at_any_size(width: int, height: int, side: int, axis: FirstAxis | None) -> None:
    pixels = np.full((height, width, 3), (7, 130, 255), dtype=np.uint8)
    scale = min(width, height) / side
    corner = (int((width / scale - side) / 2), int((height / scale - side) / 2))
    assert (resized_crop(pixels, (scale, scale), corner, side, "bicubic", axis) == [7, 130, 255]).all()
