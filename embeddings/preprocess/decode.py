"""Bytes of one image file → a Pillow image in its own colour mode, or a clear refusal.

Choices, all of them part of what an encoder sees:
- JPEG, PNG and WebP only; of an animation, the first frame.
- EXIF orientation is applied, so that the encoder sees what people see. open_clip, timm and transformers ignore
  it; for files without the tag there is no difference.
- 16-bit greyscale is scaled to 8 bits (Pillow alone would clip it to white).
- Alpha is kept here: `ImagePreprocessConfig.to_rgb` says what becomes of it.

The caps keep any one file, from its bytes to the encoder's square, within 1 s of one core and 256 MB.
"""

from __future__ import annotations

import io
import warnings
from typing import Literal

import numpy as np
from PIL import Image

from embeddings.preprocess import jpeg
from embeddings.preprocess.png import has_all_rows, has_too_many_chunks
from embeddings.refused import Refused

Format = Literal["JPEG", "PNG", "WEBP"]

MAX_BYTES = 24 * 2**20
"""Entropy decoding costs up to 30 ns a byte (progressive JPEG), and libwebp holds a copy of them."""

MAX_PIXELS: dict[Format, int] = {
    "JPEG": jpeg.MAX_JPEG_PIXELS,
    "PNG": 24_000_000,  # 4 bytes a pixel, and 4 more without its alpha or palette
    "WEBP": 12_500_000,  # Pillow holds the canvas of the animation, two copies of the frame and the image
}

# EXIF orientations whose stored picture has the upright one's left side on the right, its top below, or lies on a side.
LEFT_IS_RIGHT, TOP_IS_BOTTOM, ON_ITS_SIDE = (2, 3, 7, 8), (3, 4, 6, 7), (5, 6, 7, 8)

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SHADES = np.round(np.arange(65536) / 65535.0 * 255.0).astype(np.uint8)


def format_of(content: bytes) -> Format:
    """Raises Refused: empty, too many bytes, or none of the three formats."""
    if not content:
        raise Refused("empty", "the image file is empty")
    if len(content) > MAX_BYTES:
        raise Refused("too_large", f"the image file has {len(content)} bytes, more than the {MAX_BYTES} allowed")
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    raise Refused("unknown_format", "not an image in JPEG, PNG, WEBP: convert it to one of these")


def decode_image(content: bytes, *, max_pixels: int = jpeg.MAX_JPEG_PIXELS) -> Image.Image:
    """The whole decoded image, upright, in one of Pillow's 8-bit modes.

    Args:
        max_pixels: lowers the caps of the formats, and does not raise them.

    Raises:
        Refused: empty, of another format, too large, truncated or otherwise broken.
    """
    image_format = format_of(content)
    if image_format == "JPEG":
        frame = jpeg.read_frame(content)
        frame.check(max_pixels, frame.width * frame.height)
        pixels = jpeg.decode_pixels(content, frame, 1)
        if pixels is not None:
            return upright(as_image(pixels), orientation_of(content, frame))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images and odd palettes; the caps decide
        return _decode_with_pillow(content, image_format, min(max_pixels, MAX_PIXELS[image_format]))


def as_image(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, 1 | 3 | 4] as grey, RGB or CMYK."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[pixels.shape[2]]
    return Image.frombuffer(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def orientation_of(content: bytes, frame: jpeg.JpegFrame) -> int:
    """The EXIF orientation, 1 to 8, of a JPEG that can be decoded; 1 (upright) where the tag is missing or broken."""
    if not frame.has_app1:  # opening it once more is not free
        return 1
    try:
        return _orientation(Image.open(io.BytesIO(content), formats=("JPEG",)))
    except Exception:  # the picture is whole; what is said about it is not
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """`image` turned and mirrored as its EXIF orientation asks."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _decode_with_pillow(content: bytes, image_format: Format, max_pixels: int) -> Image.Image:
    if image_format == "PNG" and has_too_many_chunks(content):
        raise Refused("damaged", "the PNG is cut into too many chunks: save it again")
    try:
        image = Image.open(io.BytesIO(content), formats=(image_format,))
        if image.width * image.height > max_pixels:
            message = f"{image.width} x {image.height} pixels, more than the {max_pixels} allowed for {image_format}"
            raise Refused("too_many_pixels", f"the image has {message}: make it smaller")
        image.load()
        if image_format == "PNG" and _may_lack_rows(image) and not has_all_rows(content):
            raise Refused("damaged", "the PNG ends before its last row: fetch or export it again")
        return upright(_to_8_bits(image), _orientation(image))
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused("too_many_pixels", f"the image has too many pixels: {error}") from None
    except MemoryError:
        raise Refused("decode_memory", "the image needs more memory than there is: make it smaller") from None
    # A hostile file can raise anything inside a decoder, and must only cost itself.
    except Exception as error:
        raise Refused("damaged", f"the image is truncated or damaged: {error}; fetch or export it again") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # as above
        return 1


def _may_lack_rows(image: Image.Image) -> bool:
    """Rows that never came are zeros. Interlaced files bring theirs in another order."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return bool(image.info.get("interlace")) or not np.asarray(last).any()


def _to_8_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(_SHADES[np.asarray(image)]) if image.mode.startswith("I;16") else image
