"""Antialiased resize and crop in one step: RGB arrays in, RGB arrays out, two to three times as fast as Pillow.

Resizing is the larger half of what a JPEG costs. Pillow computes it in scalar integer arithmetic, and the margins too
that the crop then cuts off. Here each axis is a product with a banded matrix, block by block, by the BLAS under numpy.
The filters are Pillow's (src/libImaging/Resample.c of 13.0). Told to round as Pillow does, between the axes and in its
order, one value in ten thousand differs from Pillow's, by one level. Rounded only once, which is faster, it is one in
eight: vectors hardly move (cosine .9998), but two in a hundred of their ten nearest neighbours do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Interpolation = Literal["bicubic", "bilinear"]
FirstAxis = Literal["across", "down"]
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

MAX_SCALE = 8.0
"""Leave stronger reductions to Pillow: the matrices grow with the scale, and so does what their zeros cost."""

_BLOCK = 8  # output positions of one product: more would multiply more zeros, fewer would call BLAS more often
_STRIP = 512  # rows made float32 at a time, so that a large picture stays in bounds
_UP = 1.0 + 2e-7  # numpy rounds halves to even and Pillow up: this lifts them above the half
_REACH = {"bicubic": 2.0, "bilinear": 1.0}


def resized_crop(
    pixels: Pixels,
    scale: tuple[float, float],
    corner: tuple[int, int],
    side: int,
    interpolation: Interpolation,
    round_after: FirstAxis | None = None,
) -> Pixels:
    """The square of `side` at `corner` of the picture that `pixels` would be when resized: uint8 [side, side, 3].

    Args:
        pixels: uint8 [H, W, 3].
        scale: pixels of `pixels` for one of the resized picture, across and down; at most MAX_SCALE.
        corner: left and top of the square within the resized picture, of which nothing else is computed.
        round_after: do this axis first and round to 8 bits after it, as Pillow would; None rounds once, at the end.
    """
    height, width, _ = pixels.shape
    across = _axis(width, scale[0], corner[0], side, interpolation)
    down = _axis(height, scale[1], corner[1], side, interpolation)
    used = pixels[down.first : down.last, across.first : across.last].reshape(down.last - down.first, -1)
    if round_after is None:
        # Written with its columns first, each with its three channels, so that "across" is one more product "down".
        columns = np.empty((used.shape[1], down.n_out), dtype=np.float32)
        down.apply_down(used, columns.T)
        square = across.apply_down(columns.reshape(across.last - across.first, -1))
        levels = _rounded(square).astype(np.uint8).reshape(across.n_out, 3, down.n_out).transpose(2, 0, 1)
    else:
        if round_after == "across":
            square = down.apply_down(_rounded(across.apply_across(used)))
        else:
            square = across.apply_across(_rounded(down.apply_down(used)))
        levels = _rounded(square).astype(np.uint8).reshape(down.n_out, across.n_out, 3)
    return np.ascontiguousarray(levels[:side, :side])


def pillows_first_axis(size: tuple[int, int], new_size: tuple[int, int]) -> FirstAxis:
    """The axis that Pillow does first, resizing from `size` to `new_size` (widths and heights)."""
    less_wide, less_high = size[0] - new_size[0], size[1] - new_size[1]
    return "down" if less_high > max(2 * less_wide, 0) else "across"


@dataclass(frozen=True)
class _Axis:
    """One axis of the resize as a banded matrix, cut into blocks of output positions.

    Attributes:
        first: first input position that any output needs.
        last: one past the last.
        begins: where the input of each block begins, counted from `first`.
        weights: float32 [blocks, _BLOCK, taps]; outputs past the side repeat the last one.
    """

    first: int
    last: int
    begins: list[int]
    weights: Floats

    @property
    def n_out(self) -> int:
        return len(self.begins) * _BLOCK

    def _spread(self) -> Floats:
        """[blocks, taps * 3, _BLOCK * 3]: the weights for interleaved channels, zero from one channel to another."""
        n_blocks, _, n_taps = self.weights.shape
        spread = np.zeros((n_blocks, n_taps, 3, _BLOCK, 3), dtype=np.float32)
        for channel in range(3):
            spread[:, :, channel, :, channel] = self.weights.transpose(0, 2, 1)
        return spread.reshape(n_blocks, n_taps * 3, _BLOCK * 3)

    def apply_down(self, rows: Pixels | Floats, out: Floats | None = None) -> Floats:
        """[last - first, M] → float32 [n_out, M], in `out` where it is given."""
        n_taps = self.weights.shape[2]
        if out is None:
            out = np.empty((self.n_out, rows.shape[1]), dtype=np.float32)
        for block, begin in enumerate(self.begins):
            taps = rows[begin : begin + n_taps].astype(np.float32, copy=False)
            np.matmul(self.weights[block], taps, out=out[block * _BLOCK : (block + 1) * _BLOCK])
        return out

    def apply_across(self, rows: Pixels | Floats) -> Floats:
        """[N, (last - first) * 3] → float32 [N, n_out * 3], channels interleaved."""
        spread = self._spread()  # not kept: it is nine times as large as the weights, and made in no time
        _, n_taps, width = spread.shape
        out = np.empty((len(rows), len(self.begins) * width), dtype=np.float32)
        for top in range(0, len(rows), _STRIP):
            strip = rows[top : top + _STRIP].astype(np.float32, copy=False)
            for block, begin in enumerate(self.begins):
                taps = strip[:, begin * 3 : begin * 3 + n_taps]
                np.matmul(taps, spread[block], out=out[top : top + _STRIP, block * width : (block + 1) * width])
        return out


@lru_cache(maxsize=256)  # catalogues have few sizes; an entry is some 20 kB, and below 100 kB at MAX_SCALE
def _axis(n_in: int, scale: float, offset: int, side: int, interpolation: Interpolation) -> _Axis:
    """Weights for `side` outputs from `offset` on, each `scale` inputs apart."""
    stretch = max(scale, 1.0)  # reducing widens the filter, which is what antialiasing is
    reach = _REACH[interpolation] * stretch
    n_blocks = -(-side // _BLOCK)
    position = np.minimum(np.arange(n_blocks * _BLOCK), side - 1).reshape(n_blocks, _BLOCK, 1)
    centre = (offset + position + 0.5) * scale
    low = np.clip((centre - reach + 0.5).astype(np.int64), 0, n_in - 1)
    high = np.clip((centre + reach + 0.5).astype(np.int64), low + 1, n_in)
    n_taps = int((high[:, -1] - low[:, 0]).max())
    begins = np.minimum(low[:, :1], n_in - n_taps)
    source = begins + np.arange(n_taps)
    weights = _filter((source + 0.5 - centre) / stretch, interpolation) * ((source >= low) & (source < high))
    weights *= _UP / weights.sum(axis=2, keepdims=True)
    first = int(begins.min())
    return _Axis(first, int(begins.max()) + n_taps, (begins.ravel() - first).tolist(), weights.astype(np.float32))


def _filter(x: NDArray[np.float64], interpolation: Interpolation) -> NDArray[np.float64]:
    """The filter at distance `x` in output pixels. Bicubic: Keys 1981 with a = -0.5."""
    x = np.abs(x)
    if interpolation == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _rounded(values: Floats) -> Floats:
    """To levels of 255, in place."""
    np.rint(values, out=values)
    return np.clip(values, 0.0, 255.0, out=values)
