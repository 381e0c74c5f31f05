"""JPEG through libjpeg-turbo (simplejpeg): strict, faster than Pillow, and reduced where a smaller picture will do.

libjpeg can leave out the high frequencies and give 1/2, 1/4 or 1/8 of each edge for less work than the whole (its
other fractions cost more than the whole does). A file with any fault inside is refused: libjpeg itself only warns, and
paints what is missing grey. At full size the pixels are those that Pillow decodes, bit for bit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from embeddings.refused import Refused

MAX_JPEG_PIXELS = 64_000_000
"""Decoding costs some 7 ns a pixel even at 1/8, so that these take half a second."""

MAX_BUFFERED_PIXELS = 24_000_000
"""A file of several scans is held as coefficients, 6 bytes a pixel, whatever the scale; and so many decoded pixels at
3 bytes, copied by Pillow to 4, keep within 256 MB."""

MAX_SCANNED_PIXELS = 400_000_000
"""Pixels times scans: each scan walks over the whole picture, and a small file can hold thousands."""

_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; no browser reads the others
_MAX_SEGMENTS = 10_000  # some 20 are usual; millions of empty ones would cost seconds
_SCAN = 0xDA
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# The one warning that takes nothing from the picture: all of it is there, and stray bytes follow before the end.
_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9")
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


@dataclass(frozen=True)
class JpegFrame:
    """What a JPEG says of itself before its pixels.

    Attributes:
        has_app1: there is a segment for EXIF or XMP, so that an orientation may be found.
    """

    width: int
    height: int
    n_channels: int
    n_scans: int
    has_app1: bool = False

    def check(self, max_pixels: int, n_decoded: int) -> None:
        """Raises Refused: decoding this to `n_decoded` pixels would cost too much time or memory."""
        n_pixels = self.width * self.height
        cap = min(max_pixels, MAX_BUFFERED_PIXELS if self.n_scans > 1 else MAX_JPEG_PIXELS)
        if n_pixels > cap:
            kind = " in several scans" if cap == MAX_BUFFERED_PIXELS else ""
            message = f"the JPEG has {self.width} x {self.height} pixels{kind}, more than the {cap} allowed"
            raise Refused("too_many_pixels", f"{message}: make it smaller")
        if n_decoded > MAX_BUFFERED_PIXELS:
            message = f"{self.width} x {self.height} pixels, which leaves {n_decoded} to decode at this encoder's size"
            raise Refused(
                "too_many_pixels", f"the JPEG has {message}, more than {MAX_BUFFERED_PIXELS}: make it smaller"
            )
        if n_pixels * self.n_scans > MAX_SCANNED_PIXELS:
            raise Refused("decode_time", f"the JPEG has {self.n_scans} scans of {n_pixels} pixels: save it again")


def read_frame(content: bytes) -> JpegFrame:
    """Walk over the segments before the pixels. Raises Refused: damaged, or of a kind that nobody uses."""
    at = 2
    frame: tuple[int, int, int] | None = None
    has_app1 = False
    for _ in range(_MAX_SEGMENTS):
        at = content.find(b"\xff", at)  # libjpeg skips stray bytes too, and decoding warns of them
        marker = content[at + 1] if 0 <= at < len(content) - 3 else _SCAN
        if marker == _SCAN:
            break
        if marker == 0xFF or marker in _NO_LENGTH:
            at += 1 if marker == 0xFF else 2
            continue
        has_app1 = has_app1 or marker == 0xE1
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = _frame(content, at, marker)
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    else:
        raise Refused("damaged", f"the JPEG has more than {_MAX_SEGMENTS} segments before its pixels: save it again")
    if frame is None:
        raise Refused("damaged", "the JPEG ends before its pixels: fetch or export it again")
    return JpegFrame(*frame, n_scans=_n_scans(content, at, frame[2]), has_app1=has_app1)


def _n_scans(content: bytes, first: int, n_channels: int) -> int:
    is_sequential = content.rfind(b"\xff\xc2", 0, first) < 0
    if is_sequential and content[first + 4 : first + 5] == bytes([n_channels]):
        return 1  # the first scan holds all channels; libjpeg decodes as it reads, and refuses another
    end = content.find(_END_OF_IMAGE, first)  # behind it may lie more pictures, which are nobody's business here
    return content.count(_START_OF_SCAN, first, end if end >= 0 else len(content))


def _frame(content: bytes, at: int, marker: int) -> tuple[int, int, int]:
    header = content[at + 4 : at + 10]
    if len(header) < 6:
        raise Refused("damaged", "the JPEG ends before its pixels: fetch or export it again")
    if marker not in _FRAMES or header[0] != 8 or header[5] not in _COLOURS:
        raise Refused("unknown_format", "a lossless, arithmetic-coded or not 8-bit JPEG: save it as an ordinary one")
    height, width = int.from_bytes(header[1:3]), int.from_bytes(header[3:5])
    if not height or not width:
        raise Refused("damaged", f"the JPEG says that it has {width} x {height} pixels")
    return width, height, header[5]


def divisor_for(frame: JpegFrame, shortest: float) -> int:
    """The largest of 8, 4, 2, 1 by which the shorter edge can be divided and still be `shortest` or longer."""
    return next((d for d in (8, 4, 2) if min(frame.width, frame.height) >= d * shortest), 1)


def decode_pixels(content: bytes, frame: JpegFrame, divisor: int) -> NDArray[np.uint8] | None:
    """uint8 [H, W, channels], edges divided by `divisor` and rounded up, as stored: not turned upright.

    Channels: 1 (grey), 3 (RGB) or 4 (CMYK as Pillow understands it).

    Returns None for the odd chroma layouts that libjpeg-turbo's interface does not do. Raises Refused: damaged.
    """
    try:
        simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    colour = _COLOURS[frame.n_channels]
    # Whole is 0 here: told to keep at least all of a tiny picture, simplejpeg may still find a fraction that rounds up.
    least_width, least_height = (0 if divisor == 1 else -(-edge // divisor) for edge in (frame.width, frame.height))
    pixels: NDArray[np.uint8]
    try:
        pixels = simplejpeg.decode_jpeg(content, colour, min_width=least_width, min_height=least_height)
    except ValueError as error:
        if "memory" in str(error).lower():
            raise Refused("decode_memory", "the JPEG needs more memory than there is: make it smaller") from None
        if not _HARMLESS.search(str(error)):
            raise Refused("damaged", f"the JPEG is truncated or damaged: {error}; fetch or export it again") from None
        pixels = simplejpeg.decode_jpeg(content, colour, min_width=least_width, min_height=least_height, strict=False)
    # Adobe, and all who followed, store CMYK inverted.
    return 255 - pixels if frame.n_channels == 4 else pixels
