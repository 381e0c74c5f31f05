"""Pixels as the vision towers were trained to see them: resize, crop, scale, normalise. Pillow and numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image

from embeddings.preprocess.decode import MAX_PIXELS, decode_image
from embeddings.preprocess.features import Batch, Content, Features
from recsys.config import Config
from recsys.errors import InputError

Triple = tuple[float, float, float]

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
    mean: Triple
    std: Triple


class ImagePreprocessor:
    """Image file bytes → float32 [3, S, S], channels R, G, B."""

    tokenizer_json: str | None = None

    def __init__(self, config: ImagePreprocessConfig, *, max_pixels: int = MAX_PIXELS) -> None:
        self.config = config
        self._max_pixels = max_pixels
        self._mean = np.array(config.mean, dtype=np.float32)
        self._std = np.array(config.std, dtype=np.float32)

    def __call__(self, content: Content) -> Features:
        if isinstance(content, str):
            raise InputError("an image must be given as its file's bytes, not as text")
        return self.of_image(decode_image(content, max_pixels=self._max_pixels))

    def of_image(self, image: Image.Image) -> Features:
        """The same for an image that is decoded already."""
        if self.config.to_rgb == "before_on_white" and image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        if self.config.to_rgb != "after":
            image = image.convert("RGB")
        image = self._crop(self._resize(image)).convert("RGB")
        pixels = np.asarray(image, dtype=np.float32) / np.float32(255.0)
        return np.ascontiguousarray(((pixels - self._mean) / self._std).transpose(2, 0, 1))

    def collate(self, features: Sequence[Features]) -> Batch:
        """`pixels` float32 [B, 3, S, S]."""
        return {"pixels": np.stack(features)}

    def _resize(self, image: Image.Image) -> Image.Image:
        target = self.config.resize_to
        if self.config.resize_mode == "squash":
            new_size = (target, target)
        else:
            short, long = sorted(image.size)
            new_long = int(target * long / short)
            new_size = (target, new_long) if image.width <= image.height else (new_long, target)
        return image if image.size == new_size else image.resize(new_size, _RESAMPLING[self.config.interpolation])

    def _crop(self, image: Image.Image) -> Image.Image:
        size = self.config.size
        left, top = (self._margin(edge - size) for edge in image.size)
        return image.crop((left, top, left + size, top + size))

    def _margin(self, spare: int) -> int:
        return spare // 2 if self.config.crop_rounding == "down" else round(spare / 2)
