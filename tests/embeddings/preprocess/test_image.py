"""Our pixels are the libraries' pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
from recsys.errors import InputError
from tests.embeddings.conftest import picture, saved

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [(97, 71), (61, 120), (64, 64), (9, 13), (300, 77), (65, 68), (101, 64), (64, 99)]
MODES = ["RGB", "L", "LA", "RGBA", "P", "CMYK", "1"]


def contents() -> list[bytes]:
    plain = [saved(picture(*size, seed=seed)) for seed, size in enumerate(SIZES)]
    modes = [
        saved(picture(97, 71).convert(mode), "JPEG" if mode == "CMYK" else "PNG") for mode in MODES if mode != "RGB"
    ]
    see_through = picture(97, 71).convert("RGBA")
    see_through.putalpha(picture(97, 71, seed=9).convert("L"))
    return [*plain, *modes, saved(see_through)]


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_those_of_open_clip(resize_mode: str, interpolation: str) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    theirs = image_transform_v2(
        PreprocessCfg(size=64, resize_mode=resize_mode, interpolation=interpolation), is_train=False
    )
    config = ImagePreprocessConfig(
        size=64,
        resize_to=64,
        resize_mode=resize_mode,
        interpolation=interpolation,
        to_rgb="after",
        mean=MEAN,
        std=STD,
    )
    ours = ImagePreprocessor(config)
    for content in contents():
        expected = theirs(Image.open(io.BytesIO(content))).numpy()
        assert abs(ours(content) - expected).max() < 1e-5


def test_pixels_are_those_of_timm() -> None:
    from timm.data import create_transform

    theirs = create_transform(
        input_size=(3, 64, 64), interpolation="bicubic", mean=(0.498,) * 3, std=(0.502,) * 3, crop_pct=0.89
    )
    ours = ImagePreprocessor(ImagePreprocessConfig(size=64, resize_to=71, mean=(0.498,) * 3, std=(0.502,) * 3))
    for content in contents():
        expected = theirs(Image.open(io.BytesIO(content)).convert("RGB")).numpy()
        assert abs(ours(content) - expected).max() < 1e-5


def test_pixels_are_those_of_transformers() -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    config = ImagePreprocessConfig(
        size=64, resize_to=64, crop_rounding="down", to_rgb="before_on_white", mean=MEAN, std=STD
    )
    ours = ImagePreprocessor(config)
    for content in contents():
        expected = np.asarray(theirs(Image.open(io.BytesIO(content)))["pixel_values"][0])
        assert abs(ours(content) - expected).max() < 1e-5


def test_the_two_crop_roundings_differ_where_the_margin_is_odd() -> None:
    content = saved(picture(64, 67))  # margin 3: half to even gives 2, down gives 1
    half_even, down = (
        ImagePreprocessor(ImagePreprocessConfig(size=64, resize_to=64, crop_rounding=rounding, mean=MEAN, std=STD))
        for rounding in ("half_even", "down")
    )
    assert abs(half_even(content)[:, :-1] - down(content)[:, 1:]).max() == 0
    assert abs(half_even(content) - down(content)).max() > 0.1


def test_a_text_is_no_image() -> None:
    config = ImagePreprocessConfig(size=8, resize_to=8, mean=MEAN, std=STD)
    with pytest.raises(InputError, match="bytes, not as text"):
        ImagePreprocessor(config)("a text")


def test_a_batch_stacks_its_items() -> None:
    ours = ImagePreprocessor(ImagePreprocessConfig(size=8, resize_to=8, mean=MEAN, std=STD))
    batch = ours.collate([ours(saved(picture(20, 30))), ours(saved(picture(30, 20)))])
    assert batch["pixels"].shape == (2, 3, 8, 8)
    assert batch["pixels"].dtype == np.float32
