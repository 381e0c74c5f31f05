"""Every kind of picture that shops have, and the broken ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from embeddings.preprocess.decode import decode_image
from recsys.errors import InputError
from tests.embeddings.conftest import picture, saved


def rgb(content: bytes) -> np.ndarray:
    return np.asarray(decode_image(content).convert("RGB")).astype(int)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_read(image_format: str) -> None:
    assert rgb(saved(picture(40, 30), image_format)).shape == (30, 40, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_colour_mode_ends_as_rgb(mode: str) -> None:
    image = picture(40, 30).convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(int)
    got = rgb(saved(image, "JPEG", quality=95) if mode == "CMYK" else saved(image))
    assert got.shape == (30, 40, 3)
    assert abs(got - expected).mean() < (8 if mode == "CMYK" else 1e-9)


def test_a_16_bit_picture_keeps_its_shades() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    got = rgb(saved(Image.fromarray(ramp)))[:, :, 0]
    np.testing.assert_allclose(got, ramp / 65535 * 255, atol=0.51)


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    upright = picture(40, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to view"
    stored = saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert (rgb(stored) == np.asarray(upright)).all()


def test_of_an_animation_the_first_frame_is_seen() -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    animated = saved(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert (rgb(animated) == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"not an image", "not an image"),
        (saved(picture(8, 8), "GIF"), "not an image in JPEG, PNG, WEBP"),
        (saved(picture(200, 200), "JPEG")[:3000], "truncated"),
        (saved(picture(200, 200), "PNG")[:3000], "truncated"),
        (saved(picture(200, 200), "WEBP")[:1000], "truncated|cannot be opened|not an image"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        decode_image(content)


def test_a_picture_above_the_pixel_cap_is_refused_before_it_is_decoded() -> None:
    content = saved(picture(40, 30))
    decode_image(content, max_pixels=1200)
    with pytest.raises(InputError, match="40 x 30 pixels, more than the 1199 allowed"):
        decode_image(content, max_pixels=1199)


def test_no_mutation_of_a_file_raises_anything_but_input_error() -> None:
    rng = np.random.default_rng(0)
    for image_format in ("JPEG", "PNG", "WEBP"):
        original = saved(picture(40, 30), image_format)
        for _ in range(60):
            mutated = bytearray(original)
            for at in rng.integers(0, len(mutated), 8):
                mutated[at] = int(rng.integers(0, 256))
            try:
                image = decode_image(bytes(mutated), max_pixels=1_000_000)
            except InputError:
                continue
            assert image.width * image.height <= 1_000_000


def test_one_pixel_is_a_picture() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), (10, 20, 30)).save(buffer, "PNG")
    assert rgb(buffer.getvalue()).tolist() == [[[10, 20, 30]]]
