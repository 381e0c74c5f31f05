"""Our pixels are the libraries' pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embeddings.preprocess.decode import decode_image
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
from embeddings.refused import Refused
from tests.embeddings.conftest import picture, saved

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [(97, 71), (61, 120), (64, 64), (9, 13), (300, 77), (65, 68), (101, 64), (64, 99)]
MODES = ["RGB", "L", "LA", "RGBA", "P", "CMYK", "1"]
ANY_FILE = [saved(picture(40, 30), "JPEG", progressive=progressive) for progressive in (False, True)] + [
    saved(picture(40, 30), "PNG"),
    saved(picture(40, 30).convert("P"), "PNG"),
    saved(picture(40, 30), "WEBP"),
    saved(picture(40, 30).convert("RGBA"), "WEBP", lossless=True),
]


def preprocessor(size: int = 64, **options: Any) -> ImagePreprocessor:
    options = {"resize_to": size, "mean": MEAN, "std": STD} | options
    return ImagePreprocessor(ImagePreprocessConfig(size=size, **options))


def contents() -> list[bytes]:
    plain = [saved(picture(*size, seed=seed)) for seed, size in enumerate(SIZES)]
    modes = [
        saved(picture(97, 71).convert(mode), "JPEG" if mode == "CMYK" else "PNG") for mode in MODES if mode != "RGB"
    ]
    see_through = picture(97, 71).convert("RGBA")
    see_through.putalpha(picture(97, 71, seed=9).convert("L"))
    return [*plain, *modes, saved(see_through), saved(picture(97, 71), "WEBP")]


def tensor(ours: ImagePreprocessor, content: bytes) -> np.ndarray:
    return ours.collate([ours(content)])["pixels"][0]


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(resize_mode: str, interpolation: str) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    theirs = image_transform_v2(
        PreprocessCfg(size=64, resize_mode=resize_mode, interpolation=interpolation), is_train=False
    )
    ours = preprocessor(resize_mode=resize_mode, interpolation=interpolation, to_rgb="after", jpeg="full")
    for content in contents():
        expected = theirs(Image.open(io.BytesIO(content))).numpy()
        assert abs(tensor(ours, content) - expected).max() < 1e-5


def test_pixels_are_those_of_timm() -> None:
    from timm.data import create_transform

    theirs = create_transform(
        input_size=(3, 64, 64), interpolation="bicubic", mean=(0.498,) * 3, std=(0.502,) * 3, crop_pct=0.89
    )
    ours = preprocessor(resize_to=71, mean=(0.498,) * 3, std=(0.502,) * 3, jpeg="full")
    for content in contents():
        expected = theirs(Image.open(io.BytesIO(content)).convert("RGB")).numpy()
        assert abs(tensor(ours, content) - expected).max() < 1e-5


def test_pixels_are_those_of_transformers() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    ours = preprocessor(crop_rounding="down", to_rgb="before_on_white", jpeg="full")
    for content in contents():
        expected = np.asarray(theirs(Image.open(io.BytesIO(content)))["pixel_values"][0])
        assert abs(tensor(ours, content) - expected).max() < 1e-5


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(97, 72), (72, 97), (64, 64), (30, 300)])
def test_a_full_jpeg_has_the_pixels_of_pillow_but_for_the_last_bit(
    size: tuple[int, int], orientation: int, resize_mode: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for image in (picture(*size), picture(*size).convert("L")):
        content = saved(image, "JPEG", quality=90, exif=exif)
        ours = preprocessor(resize_mode=resize_mode, jpeg="full")
        difference = abs(ours(content).astype(int) - ours.of_image(decode_image(content)))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 2e-3  # another order of the axes, or an odd margin on the wrong side: 0.1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_jpeg_looks_like_the_whole_one(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = picture(101, 78).resize((1001, 779), Image.Resampling.BICUBIC).convert(mode)  # odd: 1/4 is 251 x 195
    content = saved(image, "JPEG", quality=90, exif=exif)
    scaled, full = (preprocessor(jpeg=jpeg)(content).astype(int) for jpeg in ("scaled", "full"))
    assert 0.0 < abs(scaled - full).mean() < 1.0
    assert abs(scaled[:, ::-1] - full).mean() > 10.0


def test_the_two_crop_roundings_differ_where_the_margin_is_odd() -> None:
    content = saved(picture(64, 67))  # margin 3: half to even gives 2, down gives 1
    half_even, down = (preprocessor(crop_rounding=rounding)(content).astype(int) for rounding in ("half_even", "down"))
    assert (half_even[:-1] == down[1:]).all()
    assert abs(half_even - down).max() > 10


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 1), (3, 8_000)])
@pytest.mark.parametrize("to_rgb", ["before", "before_on_white", "after"])
def test_a_strip_costs_no_more_than_its_square(size: tuple[int, int], image_format: str, to_rgb: str) -> None:
    content = saved(Image.new("RGB", size, (250, 120, 10)), image_format)
    for resize_mode in ("shortest", "squash"):
        got = preprocessor(224, to_rgb=to_rgb, resize_mode=resize_mode)(content)
        assert got.shape == (224, 224, 3)
        assert abs(got.astype(int) - [250, 120, 10]).max() <= 6


def test_a_see_through_picture_is_laid_on_white_strip_by_strip_as_it_would_be_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = contents()[-2]
    at_once = preprocessor(to_rgb="before_on_white")(content)
    monkeypatch.setattr("embeddings.preprocess.image._STRIP_PIXELS", 200)  # two rows of 97 at a time
    assert (preprocessor(to_rgb="before_on_white")(content) == at_once).all()


def test_a_text_is_no_image() -> None:
    with pytest.raises(Refused, match="bytes, not as text") as refused:
        preprocessor(8)("a text")
    assert refused.value.reason == "wrong_type"


def test_a_batch_normalises_each_channel() -> None:
    ours = preprocessor(8)
    features = [ours(saved(picture(20, 30))), ours(saved(picture(30, 20)))]
    pixels = ours.collate(features)["pixels"]
    assert pixels.dtype == np.float32
    expected = (np.stack(features).astype(np.float64) / 255.0 - MEAN) / STD
    np.testing.assert_allclose(pixels, expected.transpose(0, 3, 1, 2), atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(
    original=st.sampled_from(ANY_FILE),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    keep=st.floats(0, 1),
    tail=st.binary(max_size=20),
    jpeg=st.sampled_from(["scaled", "full"]),
)
def test_no_mutation_of_a_file_raises_anything_but_refused(
    original: bytes, changes: list[tuple[float, int]], keep: float, tail: bytes, jpeg: str
) -> None:
    mutated = bytearray(original)
    for at, value in changes:
        mutated[int(at * len(mutated))] = value
    if keep < 0.5:  # half of the files are whole
        del mutated[int(2 * keep * len(mutated)) :]
    _assert_pixels_or_refused(bytes(mutated) + tail, jpeg)


@settings(max_examples=150, deadline=None)
@given(
    head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 ", b"GIF89a"]),
    body=st.binary(max_size=200),
)
def test_no_bytes_raise_anything_but_refused(head: bytes, body: bytes) -> None:
    _assert_pixels_or_refused(head + body, "scaled")


def _assert_pixels_or_refused(content: bytes, jpeg: str) -> None:
    config = ImagePreprocessConfig(size=16, resize_to=18, to_rgb="before_on_white", jpeg=jpeg, mean=MEAN, std=STD)
    try:
        pixels = ImagePreprocessor(config, max_pixels=1_000_000)(content)
    except Refused:
        return
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
