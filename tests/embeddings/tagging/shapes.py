"""A picture task with a known answer: discs and crosses, red and blue, on noise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

COLOURS = ((220, 40, 40), (40, 60, 220))


def shapes(n: int, *, seed: int = 0, side: int = 72) -> tuple[list[bytes], np.ndarray, np.ndarray]:
    """`n` PNG files, int64 [N] 1 = disc and 0 = cross, int64 [N] 1 = blue and 0 = red; each pair equally often."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(np.arange(n) % 4)
    return [_drawn(pair // 2, pair % 2, rng, side) for pair in pairs], pairs // 2, pairs % 2


def _drawn(disc: int, colour: int, rng: np.random.Generator, side: int) -> bytes:
    image = Image.fromarray(rng.integers(110, 150, (side, side, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    x, y = rng.integers(side // 2 - 4, side // 2 + 5, 2)
    radius, shade = int(rng.integers(side // 4, side // 3)), COLOURS[colour]
    if disc:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=shade)
    else:
        draw.rectangle((x - radius, y - radius // 3, x + radius, y + radius // 3), fill=shade)
        draw.rectangle((x - radius // 3, y - radius, x + radius // 3, y + radius), fill=shade)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
