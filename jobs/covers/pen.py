"""Shapes in the units of the finished picture, drawn at twice its size and averaged down: anti-aliasing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

SCALE = 2


class Pen:
    """Draws on one rectangle of `width` x `height` pixels (of the finished picture); what leaves it is clipped.

    Colours are RGB; `alpha` in 0..255 lets what is beneath shine through.
    """

    def __init__(self, width: float, height: float, ground: Colour) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), ground)
        self._draw = ImageDraw.Draw(self.image, "RGBA")

    @property
    def unit(self) -> float:
        """The shorter side: what shapes are measured by, so that a scene fits any panel."""
        return min(self.width, self.height)

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fill the whole rectangle from `top` down to `bottom`."""
        column = _vertical_ramp(1, self.image.height)
        bands = [
            column.point([first + (last - first) * level // 255 for level in range(256)])
            for first, last in zip(top, bottom, strict=True)
        ]
        stretched = Image.merge("RGB", bands).resize(self.image.size, Image.Resampling.NEAREST)
        self.image.paste(stretched, (0, 0))

    def scrim(self, colour: Colour, top: float, bottom: float, alpha: int) -> None:
        """Fade to `colour` from `top` (nothing) down to `bottom` (`alpha`): ground for words on a picture."""
        width, height = self.image.size[0], max(1, round((bottom - top) * SCALE))
        mask = _vertical_ramp(width, height).point([level * alpha // 255 for level in range(256)])
        self.image.paste(colour, (0, round(top * SCALE)), mask)

    def paste(self, other: Pen, left: float, top: float, mask: Image.Image | None = None) -> None:
        self.image.paste(other.image, (round(left * SCALE), round(top * SCALE)), mask)

    def polygon(self, points: Sequence[Point], colour: Colour, alpha: int = 255) -> None:
        self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=(*colour, alpha))

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, alpha: int = 255) -> None:
        """A filled rectangle; sides in any order."""
        (left, right), (top, bottom) = sorted((left, right)), sorted((top, bottom))
        corners = (
            left * SCALE,
            top * SCALE,
            max(left * SCALE, right * SCALE - 1),
            max(top * SCALE, bottom * SCALE - 1),
        )
        self._draw.rectangle(corners, fill=(*colour, alpha))

    def frame(self, left: float, top: float, right: float, bottom: float, colour: Colour, thick: float = 1) -> None:
        """An empty rectangle with a border of `thick` pixels inside its sides."""
        corners = (left * SCALE, top * SCALE, right * SCALE - 1, bottom * SCALE - 1)
        self._draw.rectangle(corners, outline=(*colour, 255), width=round(thick * SCALE))

    def line(self, points: Sequence[Point], colour: Colour, thick: float = 1, alpha: int = 255) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.line(scaled, fill=(*colour, alpha), width=max(1, round(thick * SCALE)), joint="curve")

    def disc(self, x: float, y: float, radius: float, colour: Colour, alpha: int = 255) -> None:
        self._draw.ellipse(_around(x, y, radius, radius), fill=(*colour, alpha))

    def oval(self, x: float, y: float, across: float, down: float, colour: Colour, alpha: int = 255) -> None:
        """A filled ellipse with half-axes `across` and `down`."""
        self._draw.ellipse(_around(x, y, across, down), fill=(*colour, alpha))

    def ring(self, x: float, y: float, radius: float, colour: Colour, thick: float = 1, alpha: int = 255) -> None:
        box = _around(x, y, radius, radius)
        self._draw.ellipse(box, outline=(*colour, alpha), width=max(1, round(thick * SCALE)))

    def slice(
        self, x: float, y: float, radius: float, start: float, end: float, colour: Colour, alpha: int = 255
    ) -> None:
        """A pie slice between two angles in degrees, clockwise from three o'clock."""
        self._draw.pieslice(_around(x, y, radius, radius), start, end, fill=(*colour, alpha))

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, colour: Colour, thick: float = 1
    ) -> None:
        box = _around(x, y, radius, radius)
        self._draw.arc(box, start, end, fill=(*colour, 255), width=max(1, round(thick * SCALE)))

    def star(self, x: float, y: float, outer: float, inner: float, points: int, colour: Colour) -> None:
        """A star with one point upward."""
        radii = [outer if corner % 2 == 0 else inner for corner in range(2 * points)]
        self.polygon([polar(x, y, r, 180 * i / points - 90) for i, r in enumerate(radii)], colour)


def polar(x: float, y: float, radius: float, degrees: float) -> Point:
    """The point at a distance and an angle (clockwise from three o'clock, as Pillow counts)."""
    return x + radius * math.cos(math.radians(degrees)), y + radius * math.sin(math.radians(degrees))


def _around(x: float, y: float, across: float, down: float) -> tuple[float, float, float, float]:
    return (x - across) * SCALE, (y - down) * SCALE, (x + across) * SCALE, (y + down) * SCALE


@lru_cache(maxsize=64)
def _vertical_ramp(width: int, height: int) -> Image.Image:
    """0 at the top, 255 at the bottom."""
    return Image.linear_gradient("L").resize((width, height))


@lru_cache(maxsize=8)
def disc_mask(diameter: float) -> Image.Image:
    """A mask for `Pen.paste` that lets a disc through."""
    size = round(diameter * SCALE)
    mask = Image.new("L", (size, size), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, size - 1, size - 1), fill=255)
    return mask
