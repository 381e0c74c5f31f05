"""Every kind of picture that shops have, and the broken ones."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from embeddings.preprocess.decode import MAX_BYTES, decode_image
from embeddings.refused import Refused
from tests.embeddings.conftest import picture, saved

TOP_LEFT_OF_ORIENTATION = {1: "0 0", 2: "0 -1", 3: "-1 -1", 4: "-1 0", 5: "0 0", 6: "-1 0", 7: "-1 -1", 8: "0 -1"}


def rgb(content: bytes) -> np.ndarray:
    return np.asarray(decode_image(content).convert("RGB")).astype(int)


def reason_of(content: bytes) -> str:
    with pytest.raises(Refused) as refused:
        decode_image(content)
    return refused.value.reason


def png(width: int, height: int, n_rows: int, *, interlaced: bool = False) -> bytes:
    """A PNG that says `height` and holds `n_rows` of it, all checksums right."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    rows = zlib.compress((b"\0" + bytes([200, 30, 90]) * width) * n_rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_read(image_format: str) -> None:
    assert rgb(saved(picture(40, 30), image_format)).shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_every_colour_mode_ends_as_rgb(mode: str) -> None:
    image = picture(40, 30).convert(mode)
    assert (rgb(saved(image)) == np.asarray(image.convert("RGB"))).all()


def test_a_palette_with_a_transparent_colour_keeps_its_transparency() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 0)
    decoded = decode_image(saved(image, "PNG", transparency=0)).convert("RGBA")
    assert decoded.getpixel((0, 0)) == (255, 0, 0, 0)
    assert decoded.getpixel((1, 0)) == (0, 255, 0, 255)


def test_a_16_bit_picture_keeps_its_shades() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    got = rgb(saved(Image.fromarray(ramp)))[:, :, 0]
    np.testing.assert_allclose(got, ramp / 65535 * 255, atol=0.51)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_whichever_way_it_was_taken(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((16, 24, 3), dtype=np.uint8)
    row, column = map(int, TOP_LEFT_OF_ORIENTATION[orientation].split())  # where the upright top left corner is stored
    stored[slice(0, 8) if row == 0 else slice(8, 16), slice(0, 8) if column == 0 else slice(16, 24)] = 255
    got = rgb(saved(Image.fromarray(stored), image_format, exif=exif))
    assert got.shape == ((24, 16, 3) if orientation >= 5 else (16, 24, 3))
    assert got[2:6, 2:6].min() > 240
    assert got[10:, 10:].max() < 15


def test_a_broken_exif_block_does_not_cost_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(saved(picture(40, 30), "JPEG", exif=exif))
    at = content.index(b"Exif\0\0") + 6
    content[at : at + 8] = b"\xff" * 8
    assert rgb(bytes(content)).shape == (30, 40, 3)


def test_of_an_animation_the_first_frame_is_seen() -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for image_format in ("WEBP", "PNG"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        animated = saved(first, image_format, save_all=True, append_images=[second], **options)
        assert (rgb(animated) == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image", "unknown_format"),
        (saved(picture(8, 8), "GIF"), "unknown_format"),
        (b"\xff\xd8\xff" + bytes(MAX_BYTES), "too_large"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"RIFF\0\0\0\0WEBP", "damaged"),
        (png(0, 0, 0), "damaged"),
        (b"\xff\xd8" + b"\xff" * 200_000, "damaged"),
        (b"\xff\xd8" + b"\xff\xe0\0\x02" * 50_000, "damaged"),
        (b"\xff\xd8\xff" + bytes(200_000), "damaged"),
        (png(4, 4, 4)[:-12] + (bytes(4) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))) * 50_000, "damaged"),
        (png(30_000, 30_000, 1), "too_many_pixels"),
        (png(5_000, 5_000, 1), "too_many_pixels"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    assert reason_of(content) == reason


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_picture_is_refused_and_never_half_grey(image_format: str, share: float) -> None:
    content = saved(picture(200, 200), image_format)
    assert reason_of(content[: int(len(content) * share)]) == "damaged"


@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_that_ends_cleanly_before_its_last_row_is_refused(interlaced: bool) -> None:
    assert reason_of(png(50, 100, 40, interlaced=interlaced)) == "damaged"


def test_a_png_whose_last_row_is_black_is_whole() -> None:
    black = Image.new("RGB", (50, 40))
    assert (rgb(saved(black)) == 0).all()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_what_follows_the_end_of_a_file_does_not_matter(image_format: str) -> None:
    content = saved(picture(40, 30), image_format)
    assert (rgb(content + b"garbage" * 100) == rgb(content)).all()


def test_a_picture_above_the_pixel_cap_is_refused_before_it_is_decoded() -> None:
    for image_format in ("PNG", "JPEG", "WEBP"):
        content = saved(picture(40, 30), image_format)
        decode_image(content, max_pixels=1200)
        with pytest.raises(Refused, match="40 x 30 pixels, more than the 1199 allowed"):
            decode_image(content, max_pixels=1199)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_one_pixel_is_a_picture(image_format: str) -> None:
    got = rgb(saved(Image.new("RGB", (1, 1), (10, 20, 30)), image_format))
    assert got.shape == (1, 1, 3)
    assert abs(got - [10, 20, 30]).max() <= 4
