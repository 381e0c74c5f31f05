"""Bytes of one image file → a Pillow image in its own colour mode, or a clear refusal.

Choices, all of them part of what an encoder sees:
- JPEG, PNG and WebP only; of an animation, the first frame.
- EXIF orientation is applied, so that the encoder sees what people see. open_clip, timm and transformers ignore
  it; for files without the tag there is no difference.
- 16-bit and float greyscale is scaled to 8 bits (Pillow alone would clip it to white).
- Alpha is kept here: `ImagePreprocessConfig.to_rgb` says what becomes of it.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from recsys.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000


def decode_image(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The decoded image, upright, in one of Pillow's 8-bit modes.

    Raises:
        InputError: empty, of another format, larger than `max_pixels`, truncated or otherwise broken.
    """
    if not content:
        raise InputError("the image file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images and odd palettes; the cap below decides
        image = _open(content)
        if image.width * image.height > max_pixels:
            raise InputError(f"the image has {image.width} x {image.height} pixels, more than the {max_pixels} allowed")
        try:
            image.load()
            return _to_8_bits(ImageOps.exif_transpose(image))
        # A hostile file can raise anything inside a decoder, and must only cost itself.
        except Exception as error:
            raise InputError(f"the image is truncated or damaged: {error}") from error


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise InputError(f"not an image in {', '.join(FORMATS)}: convert it to one of these") from None
    except Exception as error:
        raise InputError(f"the image cannot be opened: {error}") from error


def _to_8_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = np.asarray(image).astype(np.float64)
        full_scale = 255.0 if pixels.max(initial=0.0) <= 255 and image.mode != "I;16" else 65535.0
        return Image.fromarray(np.clip(np.round(pixels / full_scale * 255.0), 0, 255).astype(np.uint8))
    return image
