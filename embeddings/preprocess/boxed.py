"""Whole pictures for object detectors, with the way back: boxes come out in pixels of the upright original.

What a detector sees lies at the top left of its canvas; each axis has a scale of its own, which rounding to whole
pixels makes, and which the way back therefore divides out exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embeddings.preprocess import jpeg
from embeddings.preprocess.decode import ON_ITS_SIDE, as_image, decode_image, format_of, orientation_of, upright
from embeddings.preprocess.features import Batch, Content, Features
from embeddings.preprocess.image import Triple, on_white, to_rgb
from embeddings.refused import Refused
from recsys.config import Config

Size = tuple[int, int]
"""Width and height in pixels."""

_MIN_EDGE = 32  # a strip would otherwise be resized to nothing; detectors halve their pixels five times
_SAMPLED_SCALE = 1.5  # photographs of COCO have 640 pixels, what nano and tiny YOLOX were trained to see of them 416
_JPEG_MARGIN = 2.0
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_HEADER_BYTES = 8


class BoxedPreprocessConfig(Config):
    """How a detector is shown a picture.

    Attributes:
        fit: "letterbox" keeps the aspect ratio within `width` x `height` and fills the right or the bottom with
            `pad_level` (YOLOX, OWLv2); "squash" does not keep it (RT-DETR, OWL-ViT); "edges" makes the shortest edge
            `shortest_edge`, or less where the longest would exceed `longest_edge` (DETR, Grounding DINO).
        multiple_of: "edges": both are cut down to a multiple of it (YOLOS).
        interpolation: Pillow's filters, or "sampled": between the four nearest pixels, without antialiasing, as OpenCV
            does and YOLOX was trained; what is much larger than photographs of COCO is averaged down to their size.
        channels: order that the model wants.
        mean, std: of R, G, B in [0, 1]: the model sees (level / 255 - mean) / std. With 0 and 1 / 255, levels.
    """

    kind: Literal["boxed"] = "boxed"
    fit: Literal["letterbox", "squash", "edges"]
    width: int = 0
    height: int = 0
    shortest_edge: int = 0
    longest_edge: int = 0
    multiple_of: int = 1
    interpolation: Literal["bilinear", "bicubic", "sampled"] = "bilinear"
    channels: Literal["rgb", "bgr"] = "rgb"
    pad_level: int = 0
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)

    def placed(self, size: Size) -> Size:
        """What a picture of `size` measures on the canvas."""
        width, height = size
        if self.fit == "squash":
            return self.width, self.height
        if self.fit == "letterbox":
            scale = min(self.width / width, self.height / height)
            return max(1, round(width * scale)), max(1, round(height * scale))
        short, long = _edges(min(size), max(size), self.shortest_edge, self.longest_edge, self.multiple_of)
        return (short, long) if width < height else (long, short)

    def canvas(self, size: Size) -> Size:
        """What the model is given for a picture of `size`."""
        return (self.width, self.height) if self.fit == "letterbox" else self.placed(size)

    def original(self, boxes: NDArray[np.floating], size: Size) -> NDArray[np.float64]:
        """Corners x0, y0, x1, y1 on the canvas → on the upright original of `size`, within it: float64 [K, 4]."""
        (width, height), (placed_width, placed_height) = size, self.placed(size)
        scale = np.array([width / placed_width, height / placed_height] * 2)
        clipped: NDArray[np.float64] = np.clip(boxes.astype(np.float64) * scale, 0.0, [width, height] * 2)
        return clipped


class BoxedPreprocessor:
    """Picture bytes → uint8 [H + 1, W, 3]: the canvas (R, G, B), and a row that says how large the original is.

    That row begins with its upright width and height, int32 little-endian, over the bytes of its first pixels.
    """

    tokenizer_json: str | None = None

    def __init__(self, config: BoxedPreprocessConfig) -> None:
        self.config = config

    def __call__(self, content: Content) -> Features:
        """Raises Refused: not bytes, or no picture that can be decoded within the caps."""
        if isinstance(content, str):
            raise Refused("wrong_type", "an image must be given as its file's bytes, not as text")
        try:
            image, size, divisor = self._opened(content)
            placed, canvas = self.config.placed(size), self.config.canvas(size)
            features = np.full((canvas[1] + 1, canvas[0], 3), self.config.pad_level, np.uint8)
            features[: placed[1], : placed[0]] = self._resized(image, (size[0] / divisor, size[1] / divisor), placed)
        except MemoryError:
            raise Refused("decode_memory", "the image needs more memory than there is: make it smaller") from None
        features[-1] = 0
        features[-1].reshape(-1)[:_HEADER_BYTES] = np.array(size, "<i4").view(np.uint8)
        return features

    def collate(self, features: Sequence[Features]) -> Batch:
        """Of `B` features of one shape: `pixels` uint8 [B, H, W, 3] and `sizes` int64 [B, 2], widths and heights."""
        stacked = np.stack(features)
        return {"pixels": stacked[:, :-1], "sizes": np.array([original_size(each) for each in features], np.int64)}

    def _opened(self, content: bytes) -> tuple[Image.Image, Size, int]:
        """(RGB and upright, its true size, by what its edges were divided while decoding)."""
        if format_of(content) == "JPEG":
            frame = jpeg.read_frame(content)
            orientation = orientation_of(content, frame)
            size = (frame.width, frame.height)
            size = size[::-1] if orientation in ON_ITS_SIDE else size
            divisor = self._divisor(size)
            if divisor > 1:
                frame.check(jpeg.MAX_JPEG_PIXELS, -(-frame.width // divisor) * -(-frame.height // divisor))
                pixels = jpeg.decode_pixels(content, frame, divisor)
                if pixels is not None:
                    return to_rgb(upright(as_image(pixels), orientation)), size, divisor
        image = decode_image(content)
        image = on_white(image) if image.has_transparency_data else to_rgb(image)
        return image, image.size, 1

    def _divisor(self, size: Size) -> int:
        """By what libjpeg may divide the edges, and leave `_JPEG_MARGIN` times what the canvas holds."""
        scale = min(before / after for before, after in zip(size, self.config.placed(size), strict=True))
        return next((divisor for divisor in (8, 4, 2) if scale >= _JPEG_MARGIN * divisor), 1)

    def _resized(self, image: Image.Image, extent: tuple[float, float], size: Size) -> NDArray[np.uint8]:
        """`extent` of `image`, from its top left, at `size`: uint8 [H, W, 3]."""
        if self.config.interpolation != "sampled":
            resampling = _FILTERS[self.config.interpolation]
            return np.asarray(image.resize(size, resampling, (0.0, 0.0, *extent)))
        scales = [before / after for before, after in zip(extent, size, strict=True)]
        factors = [max(1, round(scale / _SAMPLED_SCALE)) for scale in scales]
        if max(factors) > 1:
            image = image.reduce((factors[0], factors[1]))
        across, down = (scale / factor for scale, factor in zip(scales, factors, strict=True))
        affine = (across, 0.0, 0.0, 0.0, down, 0.0)
        return np.asarray(image.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR))


def original_size(features: Features) -> Size:
    """What the last row of `BoxedPreprocessor`'s features says."""
    width, height = np.ascontiguousarray(features[-1]).reshape(-1)[:_HEADER_BYTES].view("<i4").tolist()
    return width, height


def _edges(short: int, long: int, shortest_edge: int, longest_edge: int, multiple_of: int) -> Size:
    """(shorter, longer), rounded as transformers does, so that its detectors see what they were trained to see."""
    exact = float(shortest_edge)
    if long / short * shortest_edge > longest_edge:
        exact = longest_edge * short / long
    shorter = round(exact)
    longer = long if short == shorter else int(exact * long / short)
    edges = (edge - edge % multiple_of for edge in (shorter, longer))
    shorter, longer = (max(edge, _MIN_EDGE) for edge in edges)
    return shorter, longer
