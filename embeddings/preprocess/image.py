"""Pixels as the vision towers were trained to see them: decode, resize, crop, normalise. Pillow and numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from embeddings.preprocess import jpeg
from embeddings.preprocess.decode import (
    LEFT_IS_RIGHT,
    ON_ITS_SIDE,
    TOP_IS_BOTTOM,
    as_image,
    decode_image,
    format_of,
    orientation_of,
    upright,
)
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.resize import MAX_SCALE, FirstAxis, pillows_first_axis, resized_crop
from embeddings.refused import Refused
from recsys.config import Config

Triple = tuple[float, float, float]

_MAX_RESIZED_PIXELS = 8_000_000
"""A strip of 1 x 10,000 pixels would become 224 x 2,240,000 before its middle is cut out."""

_STRIP_PIXELS = 1_000_000

_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


class ImagePreprocessConfig(Config):
    """How one library prepares an image; each difference below moves embeddings by more than rounding.

    Attributes:
        size: side `S` of the square that the model sees, in pixels.
        resize_to: length of the shortest edge before the crop, or of both edges when squashed.
        resize_mode: keep the aspect ratio and crop the centre, or squash to a square.
        crop_rounding: an odd margin is rounded half to even (torchvision) or down (transformers).
        to_rgb: "before" resizing, without alpha (timm); "before_on_white", alpha laid on white (transformers);
            "after", without alpha (open_clip, which therefore resizes palette images by nearest neighbour).
        jpeg: "scaled" decodes no more of a JPEG than the resize needs and rounds once: two to four times as fast as the
            library, cosine above .998, but two in a hundred of the ten nearest neighbours change. "full" decodes all
            and rounds as the library does: up to twice as fast, and neighbours stay. Only what is too large to be held
            whole (`MAX_BUFFERED_PIXELS`) is scaled then too. Other formats are always exact.
        jpeg_margin: how many times longer than `resize_to` the shortest edge stays when scaled. Below 2 the resize
            would see less than it needs: at 1.25 four in a hundred neighbours change.
        mean: of the channels R, G, B in [0, 1].
        std: likewise.
    """

    kind: Literal["image"] = "image"
    size: int
    resize_to: int
    resize_mode: Literal["shortest", "squash"] = "shortest"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    crop_rounding: Literal["half_even", "down"] = "half_even"
    to_rgb: Literal["before", "before_on_white", "after"] = "before"
    jpeg: Literal["scaled", "full"] = "scaled"
    jpeg_margin: float = 2.0
    mean: Triple
    std: Triple


class ImagePreprocessor:
    """Image file bytes → uint8 [S, S, 3], channels R, G, B; a batch of them → normalised float32 [B, 3, S, S]."""

    tokenizer_json: str | None = None

    def __init__(self, config: ImagePreprocessConfig, *, max_pixels: int = jpeg.MAX_JPEG_PIXELS) -> None:
        self.config = config
        self._max_pixels = max_pixels
        # (level / 255 - mean) / std as one product and one sum
        std = 255.0 * np.array(config.std)
        self._gain = (1.0 / std).astype(np.float32)
        self._offset = (-255.0 * np.array(config.mean) / std).astype(np.float32)

    def __call__(self, content: Content) -> Features:
        """Raises Refused: not bytes, or no picture that can be decoded within the caps."""
        if isinstance(content, str):
            raise Refused("wrong_type", "an image must be given as its file's bytes, not as text")
        try:
            if format_of(content) == "JPEG":
                return self._of_jpeg(content)
            return self.of_image(decode_image(content, max_pixels=self._max_pixels))
        except MemoryError:
            raise Refused("decode_memory", "the image needs more memory than there is: make it smaller") from None

    def of_image(self, image: Image.Image) -> Features:
        """The same for an image that is decoded already."""
        if self.config.to_rgb == "before_on_white" and image.has_transparency_data:
            image = on_white(image)
        if self.config.to_rgb != "after":
            image = to_rgb(image)
        return np.array(to_rgb(self._resize_and_crop(image)))

    def collate(self, features: Sequence[Features]) -> Batch:
        """`pixels` float32 [B, 3, S, S]."""
        pixels = np.empty((len(features), 3, self.config.size, self.config.size), dtype=np.float32)
        for row, picture in zip(pixels, features, strict=True):
            for channel, levels in enumerate(np.ascontiguousarray(picture.transpose(2, 0, 1))):
                np.multiply(levels, self._gain[channel], out=row[channel])
                row[channel] += self._offset[channel]
        return {"pixels": pixels}

    def _of_jpeg(self, content: bytes) -> Features:
        frame = jpeg.read_frame(content)
        scaled = self.config.jpeg == "scaled" or frame.width * frame.height > jpeg.MAX_BUFFERED_PIXELS
        divisor = jpeg.divisor_for(frame, self.config.jpeg_margin * self.config.resize_to) if scaled else 1
        frame.check(self._max_pixels, -(-frame.width // divisor) * -(-frame.height // divisor))
        pixels = jpeg.decode_pixels(content, frame, divisor)
        if pixels is None:
            return self.of_image(decode_image(content, max_pixels=self._max_pixels))
        orientation, size = orientation_of(content, frame), (frame.width, frame.height)
        new_size, side = self._new_size(size), self.config.size
        # Of the true size: a decoded edge is rounded up, which would move the far side by up to a pixel.
        scale = (size[0] / divisor / new_size[0], size[1] / divisor / new_size[1])
        is_cmyk = pixels.shape[2] == 4
        if max(scale) > MAX_SCALE or (is_cmyk and not scaled):
            return self.of_image(upright(as_image(pixels), orientation))
        if pixels.shape[2] != 3:
            pixels = np.asarray(as_image(pixels).convert("RGB"))
        # The square is cut before it is turned: its corner is where the upright picture's will come to lie.
        left, top = self._corner(new_size)
        corner = (
            new_size[0] - side - left if orientation in LEFT_IS_RIGHT else left,
            new_size[1] - side - top if orientation in TOP_IS_BOTTOM else top,
        )
        round_after = None if scaled else _round_after(size, new_size, on_its_side=orientation in ON_ITS_SIDE)
        square = resized_crop(pixels, scale, corner, side, self.config.interpolation, round_after)
        return square if orientation == 1 else np.array(upright(Image.fromarray(square), orientation))

    def _new_size(self, size: tuple[int, int]) -> tuple[int, int]:
        target = self.config.resize_to
        if self.config.resize_mode == "squash":
            return target, target
        new_long = int(target * max(size) / min(size))
        return (target, new_long) if size[0] <= size[1] else (new_long, target)

    def _corner(self, new_size: tuple[int, int]) -> tuple[int, int]:
        spare = [edge - self.config.size for edge in new_size]
        left, top = (edge // 2 if self.config.crop_rounding == "down" else round(edge / 2) for edge in spare)
        return left, top

    def _resize_and_crop(self, image: Image.Image) -> Image.Image:
        side, resampling = self.config.size, _RESAMPLING[self.config.interpolation]
        new_size = self._new_size(image.size)
        left, top = self._corner(new_size)
        if new_size[0] * new_size[1] > _MAX_RESIZED_PIXELS:
            across, down = image.width / new_size[0], image.height / new_size[1]
            box = (left * across, top * down, (left + side) * across, (top + side) * down)
            return image.resize((side, side), resampling, box)
        if image.size != new_size:
            image = image.resize(new_size, resampling)
        return image.crop((left, top, left + side, top + side))


def _round_after(size: tuple[int, int], new_size: tuple[int, int], *, on_its_side: bool) -> FirstAxis:
    """The axis of the stored picture that Pillow would do first, given the upright one."""
    if not on_its_side:
        return pillows_first_axis(size, new_size)
    return "down" if pillows_first_axis(size[::-1], new_size[::-1]) == "across" else "across"


def to_rgb(image: Image.Image) -> Image.Image:
    """Without alpha; what is RGB stays the same object, which Pillow would copy."""
    return image if image.mode == "RGB" else image.convert("RGB")


def on_white(image: Image.Image) -> Image.Image:
    """RGB, strip by strip: for the whole picture at once Pillow would need four copies."""
    result = Image.new("RGB", image.size)
    n_rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, n_rows):
        strip = image.crop((0, top, image.width, min(top + n_rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, "white")
        result.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return result
