"""libjpeg-turbo through simplejpeg: Pillow's pixels, fewer of them on request, and nothing half decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from embeddings.preprocess.decode import as_image, decode_image
from embeddings.preprocess.jpeg import MAX_SCANNED_PIXELS, JpegFrame, decode_pixels, divisor_for, read_frame
from embeddings.refused import Refused
from tests.embeddings.conftest import picture, saved

START_OF_FRAME = b"\xff\xc0"


def decoded(content: bytes, divisor: int = 1) -> np.ndarray:
    pixels = decode_pixels(content, read_frame(content), divisor)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize(("mode", "subsampling"), [("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", 0), ("CMYK", 0)])
@pytest.mark.parametrize("size", [(97, 71), (1, 1), (5, 7), (8, 9), (300, 2)])
def test_whole_pictures_are_those_of_pillow_bit_for_bit(mode: str, subsampling: int, size: tuple[int, int]) -> None:
    content = saved(picture(*size).convert(mode), "JPEG", quality=90, subsampling=subsampling)
    pillows = Image.open(io.BytesIO(content))
    assert as_image(decoded(content)).mode == pillows.mode
    assert (np.asarray(as_image(decoded(content))) == np.asarray(pillows)).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_reduced_picture_is_the_mean_of_what_it_covers(progressive: bool) -> None:
    image = picture(321, 200).resize((642, 400), Image.Resampling.BICUBIC)  # smooth, so that nothing lies between
    content = saved(image, "JPEG", quality=95, subsampling=0, progressive=progressive)
    whole = decoded(content).astype(float)
    for divisor in (2, 4, 8):
        reduced = decoded(content, divisor)
        assert reduced.shape == (400 // divisor, -(-642 // divisor), 3)
        n_columns = 642 // divisor
        means = whole[:, : n_columns * divisor].reshape(400 // divisor, divisor, n_columns, divisor, 3).mean((1, 3))
        assert abs(reduced[:, :n_columns] - means).mean() < 3


def test_a_colour_layout_that_libjpeg_turbo_leaves_out_is_pillows() -> None:
    content = saved(picture(97, 71).convert("CMYK"), "JPEG", subsampling=2)
    assert decode_pixels(content, read_frame(content), 1) is None
    assert (np.asarray(decode_image(content)) == np.asarray(Image.open(io.BytesIO(content)))).all()


def test_the_divisor_leaves_the_shorter_edge_long_enough() -> None:
    frame = JpegFrame(width=4000, height=1000, n_channels=3, n_scans=1)
    assert [divisor_for(frame, shortest) for shortest in (125, 126, 250, 251, 500, 501, 9999)] == [8, 4, 4, 2, 2, 1, 1]


def test_data_that_end_early_are_refused_though_the_end_marker_is_there() -> None:
    content = saved(picture(200, 200), "JPEG")
    with pytest.raises(Refused, match="premature end of data segment") as refused:
        decoded(content[: len(content) // 2] + b"\xff\xd9")
    assert refused.value.reason == "damaged"


def test_stray_bytes_after_the_last_pixel_take_nothing_from_the_picture() -> None:
    content = saved(picture(200, 200), "JPEG")
    assert (decoded(content[:-2] + b"abc" + content[-2:]) == decoded(content)).all()


def test_one_changed_byte_is_refused_or_gives_a_whole_picture() -> None:
    content = saved(picture(64, 64), "JPEG")
    for at in range(2, len(content), 7):
        changed = content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :]
        try:
            frame = read_frame(changed)
            frame.check(10_000, 10_000)
            pixels = decode_pixels(changed, frame, 1)
        except Refused:
            continue
        assert pixels is None or pixels.shape == (frame.height, frame.width, frame.n_channels)


@pytest.mark.parametrize(
    ("marker", "size", "reason"),
    [
        (b"\xff\xc0", b"\0\0\0\x40", "damaged"),  # no height
        (b"\xff\xc0", b"\xff\xff\xff\xff", "too_many_pixels"),
        (b"\xff\xc0", b"\x08\0\x08\0", "damaged"),  # a small file that says that it is 2048 x 2048
        (b"\xff\xc9", b"\0\x40\0\x40", "unknown_format"),  # arithmetic coding
        (b"\xff\xc3", b"\0\x40\0\x40", "unknown_format"),  # lossless
    ],
)
def test_a_lying_header_is_refused(marker: bytes, size: bytes, reason: str) -> None:
    content = bytearray(saved(picture(64, 64), "JPEG"))
    at = content.index(START_OF_FRAME)
    content[at : at + 2], content[at + 5 : at + 9] = marker, size
    with pytest.raises(Refused) as refused:
        decode_image(bytes(content), max_pixels=64_000_000)
    assert refused.value.reason == reason


def test_thousands_of_scans_are_refused_before_they_are_decoded() -> None:
    content = saved(picture(200, 200), "JPEG", progressive=True)
    end = content.index(b"\xff\xd9", content.index(b"\xff\xda"))
    frame = read_frame(content)
    assert 1 < frame.n_scans < 20
    frame.check(40_000, 40_000)
    n_more = MAX_SCANNED_PIXELS // 40_000
    bomb = read_frame(content[:end] + b"\xff\xda\0\x02" * n_more + content[end:])
    with pytest.raises(Refused, match=f"{frame.n_scans + n_more} scans") as refused:
        bomb.check(40_000, 40_000)
    assert refused.value.reason == "decode_time"


def test_a_thumbnail_or_a_second_picture_is_no_scan() -> None:
    small = saved(picture(32, 32), "JPEG")
    exif = b"Exif\0\0" + small
    assert read_frame(saved(picture(64, 64), "JPEG", exif=exif) + small).n_scans == 1


def test_a_scan_by_scan_picture_may_have_fewer_pixels_than_one_that_is_decoded_as_it_is_read() -> None:
    JpegFrame(8000, 6000, 3, n_scans=1).check(64_000_000, 1_000_000)
    with pytest.raises(Refused, match="8000 x 6000 pixels in several scans"):
        JpegFrame(8000, 6000, 3, n_scans=2).check(64_000_000, 1_000_000)
    with pytest.raises(Refused, match="leaves 48000000 to decode"):
        JpegFrame(8000, 6000, 3, n_scans=1).check(64_000_000, 48_000_000)
