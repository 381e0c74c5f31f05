"""Pictures for detectors: what lies where on the canvas, and the way back to the upright original."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from embeddings.isolation import DecodePool
from embeddings.preprocess.boxed import BoxedPreprocessConfig, BoxedPreprocessor, original_size
from embeddings.preprocess.build import build_preprocessor
from embeddings.refused import Refused
from recsys.manifest import canonical_json
from tests.embeddings.conftest import picture, saved

LETTERBOX = BoxedPreprocessConfig(fit="letterbox", width=96, height=96, interpolation="sampled", pad_level=114)
EDGES = BoxedPreprocessConfig(fit="edges", shortest_edge=96, longest_edge=160)
SQUASH = BoxedPreprocessConfig(fit="squash", width=64, height=64, interpolation="bicubic")


def with_square(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A bright square on black."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    return image


def bright_box(canvas: np.ndarray, config: BoxedPreprocessConfig, size: tuple[int, int]) -> np.ndarray:
    """Where the square is, found on the canvas and mapped back."""
    placed = config.placed(size)
    bright = canvas[: placed[1], : placed[0], 0] > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    corners = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    return config.original(corners, size)[0]


@pytest.mark.parametrize("config", [LETTERBOX, EDGES, SQUASH], ids=["letterbox", "edges", "squash"])
@pytest.mark.parametrize("size", [(192, 128), (128, 192), (301, 97), (97, 301), (64, 64), (40, 30)])
def test_a_box_on_the_canvas_lies_where_the_object_is(config: BoxedPreprocessConfig, size: tuple[int, int]) -> None:
    width, height = size
    box = (width // 4, height // 5, width // 2, height - height // 5)
    features = BoxedPreprocessor(config)(saved(with_square(size, box)))
    assert features.dtype == np.uint8
    assert original_size(features) == size
    pixel = np.array(size) / config.placed(size)
    found = bright_box(features[:-1], config, size)
    assert (np.abs(found - box) <= np.tile(np.maximum(pixel, 1.0), 2)).all()


@pytest.mark.parametrize("config", [LETTERBOX, EDGES, SQUASH], ids=["letterbox", "edges", "squash"])
def test_the_way_to_the_canvas_and_back_is_exact(config: BoxedPreprocessConfig) -> None:
    random = np.random.default_rng(0)
    for size in [(640, 427), (427, 640), (1, 9000), (9000, 1), (33, 34), (5000, 4999)]:
        placed, canvas = config.placed(size), config.canvas(size)
        assert all(1 <= part <= whole for part, whole in zip(placed, canvas, strict=True))
        corners = np.sort(random.uniform(0, 1, (50, 2, 2)), axis=1) * size
        boxes = corners.reshape(50, 4)
        there = boxes * np.tile(np.array(placed) / size, 2)
        assert np.abs(config.original(there, size) - boxes).max() < 1e-9
        whole = np.array([[0.0, 0.0, *placed]])
        assert config.original(whole, size).tolist() == [[0.0, 0.0, *size]]


def test_what_sticks_out_of_the_picture_is_cut_off() -> None:
    boxes = LETTERBOX.original(np.array([[-5.0, -5.0, 200.0, 200.0]]), (192, 128))
    assert boxes.tolist() == [[0.0, 0.0, 192.0, 128.0]]


def test_a_letterbox_is_filled_at_the_right_or_below() -> None:
    wide = BoxedPreprocessor(LETTERBOX)(saved(Image.new("RGB", (192, 128), "white")))[:-1]
    assert (wide[:64] == 255).all()
    assert (wide[64:] == 114).all()
    high = BoxedPreprocessor(LETTERBOX)(saved(Image.new("RGB", (128, 192), "white")))[:-1]
    assert (high[:, :64] == 255).all()
    assert (high[:, 64:] == 114).all()


def test_sampling_takes_the_four_nearest_pixels_as_opencv_does() -> None:
    image = picture(150, 100)
    ours = BoxedPreprocessor(LETTERBOX)(saved(image))[:64, :96].astype(float)
    levels = np.asarray(image, np.float64)
    x, y = (np.arange(96) + 0.5) * 150 / 96 - 0.5, (np.arange(64) + 0.5) * 100 / 64 - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - left)[None, :, None], (y - top)[:, None, None]
    rows = [np.clip(top + step, 0, 99) for step in (0, 1)]
    columns = [np.clip(left + step, 0, 149) for step in (0, 1)]
    upper, lower = (levels[row][:, columns[0]] * (1 - across) + levels[row][:, columns[1]] * across for row in rows)
    assert np.abs(ours - (upper * (1 - down) + lower * down)).max() <= 1.0


def test_a_large_picture_is_averaged_and_not_sampled_with_holes() -> None:
    stripes = np.zeros((960, 1440, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = BoxedPreprocessor(LETTERBOX)(saved(Image.fromarray(stripes)))[:64, 1:95].astype(int)
    assert np.abs(seen - 127).max() < 20


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("config", [LETTERBOX, EDGES, SQUASH], ids=["letterbox", "edges", "squash"])
def test_a_box_on_a_turned_picture_lies_where_people_see_the_object(
    config: BoxedPreprocessConfig, orientation: int
) -> None:
    size, box = (192, 128), (24, 16, 72, 48)
    content = turned(with_square(size, box), orientation, "PNG")
    features = BoxedPreprocessor(config)(content)
    assert original_size(features) == size
    assert np.abs(bright_box(features[:-1], config, size) - box).max() <= 3.0


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_photograph_that_is_decoded_smaller_keeps_its_boxes(orientation: int) -> None:
    size, box = (2400, 1600), (600, 400, 1200, 1000)
    content = turned(with_square(size, box), orientation, "JPEG")
    features = BoxedPreprocessor(LETTERBOX)(content)
    assert original_size(features) == size
    assert np.abs(bright_box(features[:-1], LETTERBOX, size) - box).max() <= 25.0  # one pixel of the canvas


@pytest.mark.parametrize(
    ("kind", "multiple"), [(transformers.DetrImageProcessorPil, 1), (transformers.YolosImageProcessorPil, 16)]
)
def test_edges_are_those_of_transformers_to_the_pixel(kind: Any, multiple: int) -> None:
    processor = kind(size={"shortest_edge": 96, "longest_edge": 160}, do_normalize=False, do_rescale=False)
    config = EDGES.model_copy(update={"multiple_of": multiple})
    for size in [(192, 128), (128, 192), (301, 97), (97, 301), (96, 96), (96, 120), (333, 200), (50, 77)]:
        image = picture(*size)
        theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
        ours = BoxedPreprocessor(config)(saved(image))[:-1].transpose(2, 0, 1)
        assert ours.shape == theirs.shape
        assert (ours == theirs).all()


def test_a_batch_says_how_large_each_original_is() -> None:
    preprocessor = BoxedPreprocessor(SQUASH)
    batch = preprocessor.collate([preprocessor(saved(picture(*size))) for size in ((50, 40), (7, 300))])
    assert batch["pixels"].shape == (2, 64, 64, 3)
    assert batch["sizes"].tolist() == [[50, 40], [7, 300]]


def test_it_is_built_from_its_description() -> None:
    built = build_preprocessor(canonical_json(EDGES.model_dump(mode="json")), None)
    assert built.config == EDGES


def test_what_is_no_picture_is_refused() -> None:
    preprocessor = BoxedPreprocessor(LETTERBOX)
    for content, reason in [(b"", "empty"), (b"GIF89a", "unknown_format"), (saved(picture(90, 90))[:900], "damaged")]:
        with pytest.raises(Refused) as refused:
            preprocessor(content)
        assert refused.value.reason == reason


def test_see_through_parts_are_seen_on_white() -> None:
    cutout = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    assert (BoxedPreprocessor(LETTERBOX)(saved(cutout))[:-1] == 255).all()


def turned(image: Image.Image, orientation: int, image_format: str) -> bytes:
    """The file that a camera held that way would write: people still see `image`."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = image.transpose(undo[orientation]) if orientation in undo else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, image_format, exif=exif, **({"quality": 95} if image_format == "JPEG" else {}))
    return buffer.getvalue()


def test_a_photograph_of_24_megapixels_fits_into_a_worker_however_it_was_held() -> None:
    config = BoxedPreprocessConfig(fit="edges", shortest_edge=800, longest_edge=1333)
    photograph = turned(picture(600, 398).resize((6000, 3980)), 6, "JPEG")
    with DecodePool(canonical_json(config.model_dump(mode="json")), workers=1) as pool:
        [(_, features)] = pool.map([("photograph", photograph)])
    assert isinstance(features, np.ndarray)
    assert (features.shape, original_size(features)) == ((801, 1206, 3), (6000, 3980))
