"""A picture with its objects drawn in, for people who judge a detector."""

from __future__ import annotations

import colorsys
import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import ImageDraw, ImageFont

from embeddings.preprocess.decode import decode_image
from embeddings.preprocess.image import on_white, to_rgb

_QUALITY = 85


def drawn_boxes(picture: bytes, boxes: Sequence[Mapping[str, Any]], *, longest_edge: int = 640) -> bytes:
    """JPEG of the upright picture, made smaller where it is larger, with each box, its label and confidence.

    Args:
        picture: of a kind that a decode worker has taken before: it is decoded in this process.
        boxes: of a detector's record.

    Raises:
        Refused: it is no picture.
    """
    image = decode_image(picture)
    image = on_white(image) if image.has_transparency_data else to_rgb(image)
    size = image.size
    image.thumbnail((longest_edge, longest_edge))
    scale = (image.width / size[0], image.height / size[1])
    draw = ImageDraw.Draw(image)
    line = max(2, max(image.size) // 250)
    font = ImageFont.load_default(max(11.0, max(image.size) / 45))
    for each in reversed(boxes):  # the surest lies on top
        x0, y0, x1, y1 = (edge * scale[at % 2] for at, edge in enumerate(each["box"]))
        colour = _colour(each["label"])
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=line)
        text = f"{each['label']} {each['confidence']:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        at = (min(x0, max(0.0, image.width - (right - left) - 6)), max(0.0, y0 - (bottom - top) - 6))
        draw.rectangle((*at, at[0] + right - left + 6, at[1] + bottom - top + 6), fill=colour)
        draw.text((at[0] + 3 - left, at[1] + 3 - top), text, fill="white", font=font)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _colour(label: str) -> tuple[int, int, int]:
    """The same for a label everywhere; dark enough for white letters."""
    red, green, blue = colorsys.hls_to_rgb(zlib.crc32(label.encode()) % 360 / 360, 0.35, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
