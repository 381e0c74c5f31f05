"""One object of a picture, seen as an image encoder sees whole pictures.

The content is a line that names the box, then the picture's bytes: `xyxy=10,20,200,300`, in whole pixels of the upright
picture, from its top left.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Annotated, Literal

from PIL import Image
from pydantic import Field

from embeddings.preprocess.decode import decode_image
from embeddings.preprocess.fake import FakePreprocessConfig, FakePreprocessor
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
from embeddings.refused import Refused
from recsys.config import Config

PixelBox = tuple[int, int, int, int]
"""x0, y0, x1, y1; x1 and y1 lie outside."""

_HEADER = re.compile(rb"xyxy=(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})\n")


class CropPreprocessConfig(Config):
    """How an object is cut out.

    Attributes:
        margin: of the box's edges, added on each side where the picture goes on: an object is told by what it touches.
        image: what then happens to it as to any picture.
    """

    kind: Literal["crop"] = "crop"
    margin: float = 0.05
    image: Annotated[ImagePreprocessConfig | FakePreprocessConfig, Field(discriminator="kind")]


def crop_content(box: PixelBox, picture: bytes) -> bytes:
    """The content that stands for one object of a picture."""
    return b"xyxy=%d,%d,%d,%d\n" % box + picture


class CropPreprocessor:
    """`crop_content` → what the inner preprocessor makes of the object."""

    tokenizer_json: str | None = None

    def __init__(self, config: CropPreprocessConfig) -> None:
        self.config = config
        self._fake = FakePreprocessor(config.image) if isinstance(config.image, FakePreprocessConfig) else None
        self._image = ImagePreprocessor(config.image) if isinstance(config.image, ImagePreprocessConfig) else None

    def __call__(self, content: Content) -> Features:
        """Raises Refused: no box before the picture, a box outside it, or no picture that can be decoded."""
        if isinstance(content, str):
            raise Refused("wrong_type", "an object must be given as its box and its picture's bytes, not as text")
        header = _HEADER.match(content)
        if header is None:
            raise Refused("unknown_format", "an object must begin with its box: read it by CropReader")
        x0, y0, x1, y1 = (int(edge) for edge in header.groups())
        try:
            crop = self._cut(decode_image(content[header.end() :]), (x0, y0, x1, y1))
            if self._image is not None:
                return self._image.of_image(crop)
            assert self._fake is not None
            return self._fake(_as_png(crop))
        except MemoryError:
            raise Refused("decode_memory", "the image needs more memory than there is: make it smaller") from None

    def collate(self, features: Sequence[Features]) -> Batch:
        """As the inner preprocessor does."""
        inner = self._image or self._fake
        assert inner is not None
        return inner.collate(features)

    def _cut(self, image: Image.Image, box: PixelBox) -> Image.Image:
        x0, y0, x1, y1 = box
        if not (x0 < x1 <= image.width and y0 < y1 <= image.height):
            raise Refused("changed", f"the box {box} does not lie in a picture of {image.width} x {image.height}")
        across, down = round(self.config.margin * (x1 - x0)), round(self.config.margin * (y1 - y0))
        corners = (max(0, x0 - across), max(0, y0 - down), min(image.width, x1 + across), min(image.height, y1 + down))
        return image.crop(corners)


def _as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()
