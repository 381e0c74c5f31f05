"""Objects cut out of pictures: what the image encoder sees of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.crop import CropPreprocessConfig, CropPreprocessor, crop_content
from embeddings.preprocess.fake import FakePreprocessConfig, FakePreprocessor
from embeddings.preprocess.image import ImagePreprocessConfig, ImagePreprocessor
from embeddings.refused import Refused
from recsys.manifest import canonical_json
from tests.embeddings.conftest import picture, saved
from tests.embeddings.preprocess.test_boxed import turned

IMAGE = ImagePreprocessConfig(size=32, resize_to=32, mean=(0.5,) * 3, std=(0.5,) * 3)
BOX = (40, 20, 100, 80)


def test_an_object_is_seen_as_the_picture_that_it_is() -> None:
    image = picture(160, 120)
    crop = CropPreprocessor(CropPreprocessConfig(image=IMAGE, margin=0.0))
    assert (crop(crop_content(BOX, saved(image))) == ImagePreprocessor(IMAGE)(saved(image.crop(BOX)))).all()


def test_a_margin_shows_what_the_object_touches_and_ends_where_the_picture_does() -> None:
    image = picture(160, 120)
    crop = CropPreprocessor(CropPreprocessConfig(image=IMAGE, margin=0.1))
    seen = ImagePreprocessor(IMAGE)(saved(image.crop((34, 14, 106, 86))))
    assert (crop(crop_content(BOX, saved(image))) == seen).all()
    whole = ImagePreprocessor(IMAGE)(saved(image))
    assert (crop(crop_content((0, 0, 160, 120), saved(image))) == whole).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_box_of_a_turned_picture_is_meant_as_people_see_it(orientation: int) -> None:
    image = Image.new("RGB", (160, 120))
    image.paste((255, 255, 255), BOX)
    crop = CropPreprocessor(CropPreprocessConfig(image=IMAGE, margin=0.0))
    assert (crop(crop_content(BOX, turned(image, orientation, "PNG"))) == 255).all()


def test_the_fake_encoder_sees_objects_too() -> None:
    fake = FakePreprocessConfig(modality="image", n_meaning=48)
    config = CropPreprocessConfig(image=fake, margin=0.0)
    crop = build_preprocessor(canonical_json(config.model_dump(mode="json")), None)
    image = picture(160, 120)
    colours = crop(crop_content(BOX, saved(image)))[:48]
    assert colours == pytest.approx(FakePreprocessor(fake)(saved(image.crop(BOX)))[:48])
    assert crop.collate([colours])["features"].dtype == np.float32


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (saved(picture(160, 120)), "unknown_format"),
        (crop_content((40, 20, 40, 80), saved(picture(160, 120))), "changed"),
        (crop_content((40, 20, 161, 80), saved(picture(160, 120))), "changed"),
        (crop_content(BOX, b"not a picture"), "unknown_format"),
        (crop_content(BOX, b""), "empty"),
        (crop_content(BOX, saved(picture(160, 120))[:900]), "damaged"),
        ("words", "wrong_type"),
    ],
)
def test_what_holds_no_object_is_refused(content: bytes | str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        CropPreprocessor(CropPreprocessConfig(image=IMAGE))(content)
    assert refused.value.reason == reason
