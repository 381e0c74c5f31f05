"""What is seen of pictures, and which of them are the same."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features
from embeddings.quality.agreement import pictures_agree
from embeddings.quality.blank import blank_kind
from embeddings.quality.pictures import LOOK, THUMBNAIL, Decode, Looks, look_at, thumbnails
from embeddings.refused import Refused
from recsys.errors import InputError


def decoder(preprocessing: str) -> Decode:
    """In this process: the tests' pictures are our own."""
    preprocessor = build_preprocessor(preprocessing, None)

    def decode(contents: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Features | Refused]]:
        for key, content in contents:
            try:
                yield key, preprocessor(content)
            except InputError as error:
                yield key, Refused("damaged", str(error))

    return decode


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def scene(seed: int, size: tuple[int, int] = (240, 360)) -> Image.Image:
    """Soft blobs of colour: as unlike from seed to seed as posters are."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 4, 3)).astype(np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


FILES = {
    "original": encoded(scene(0)),
    "smaller": encoded(scene(0).resize((90, 135)), "JPEG", quality=60),
    "cropped": encoded(scene(0).crop((5, 5, 235, 355)), "JPEG", quality=85),
    "other": encoded(scene(1)),
    "white": encoded(Image.new("RGB", (80, 80), "white")),
    "off-white": encoded(Image.new("RGB", (50, 90), (250, 250, 250)), "JPEG"),
    "black": encoded(Image.new("RGB", (80, 80), "black")),
    "clear": encoded(Image.new("RGBA", (80, 80), (0, 0, 0, 0))),
    "broken": b"\xff\xd8\xff\xe0 nothing more",
}
NAMES = list(FILES)


def read(reference: str) -> bytes:
    if reference not in FILES:
        raise Refused("not_found", f"{reference} is not there")
    return FILES[reference]


def looks_of(*names: str) -> Looks:
    return look_at([(NAMES.index(name), name) for name in names], read, decoder(LOOK))


def verdict(one: str, other: str) -> int:
    judge = pictures_agree(looks_of(*(name for name in NAMES if name != "broken")))
    return int(judge(np.array([[NAMES.index(one), NAMES.index(other)]]))[0])


def test_a_picture_made_smaller_cropped_or_compressed_is_the_same() -> None:
    assert verdict("original", "smaller") == verdict("original", "cropped") == verdict("smaller", "cropped") == 1


def test_other_pictures_are_not() -> None:
    assert verdict("original", "other") == verdict("original", "white") == 0


def test_flat_pictures_are_told_by_their_colour() -> None:
    assert verdict("white", "off-white") == verdict("white", "clear") == 1
    assert verdict("white", "black") == 0


def test_a_picture_that_was_not_looked_at_is_unknown() -> None:
    judge = pictures_agree(looks_of("original"))
    assert judge(np.array([[0, 1]])).tolist() == [-1]
    assert pictures_agree(looks_of())(np.array([[0, 1]])).tolist() == [-1]


def test_what_is_transparent_shows_the_white_page() -> None:
    looks = looks_of("clear")
    assert looks.signatures.min() == 255
    assert blank_kind(looks.figures[0]) == "constant"


def test_unreadable_and_broken_pictures_are_named_and_harm_no_neighbour() -> None:
    seen: list[tuple[int, int]] = []
    references = [(5, "white"), (1, "gone"), (3, "broken"), (2, "original")]
    looks = look_at(references, read, decoder(LOOK), on_progress=lambda done, total: seen.append((done, total)))
    assert looks.rows.tolist() == [2, 5]
    assert [(row, why.reason) for row, why in looks.refused] == [(1, "not_found"), (3, "damaged")]
    assert seen[-1][1] == 4


def test_no_picture_at_all_gives_empty_arrays() -> None:
    looks = looks_of()
    assert looks.figures.shape == (0, 4)
    assert looks.signatures.shape == (0, 16, 16, 3)


def test_thumbnails_are_small_jpegs_of_what_can_be_decoded() -> None:
    found = thumbnails([(0, "original"), (0, "original"), (1, "gone"), (2, "broken")], read, decoder(THUMBNAIL))
    assert list(found) == [0]
    thumbnail = Image.open(io.BytesIO(found[0]))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (128, 128))
    assert len(found[0]) < 16_000
