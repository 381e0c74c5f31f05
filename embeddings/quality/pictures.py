"""A look at pictures: small enough to keep of each, large enough to tell blank ones and copies; and thumbnails.

Whoever calls hands in how references are read and bytes decoded, so that untrusted pictures are decoded elsewhere.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embeddings.preprocess.features import Features
from embeddings.preprocess.image import ImagePreprocessConfig
from embeddings.quality.blank import FIGURES, figures_of
from embeddings.quality.nearest import OnProgress
from embeddings.refused import Refused
from recsys.manifest import canonical_json

Read = Callable[[str], bytes]
"""A reference → its bytes, from many threads. Raises Refused."""

Decode = Callable[[Iterable[tuple[int, bytes]]], Iterator[tuple[int, Features | Refused]]]
"""As `embeddings.isolation.pool.DecodePool.map` of `LOOK` or `THUMBNAIL`: uint8 [S, S, 3]."""

LOOK_SIDE, SIGNATURE_SIDE, THUMBNAIL_SIDE = 64, 16, 128
# The whole picture, squashed: a blank middle is not a blank picture. What is transparent shows the page, white.
_LOOK = ImagePreprocessConfig(
    size=LOOK_SIDE,
    resize_to=LOOK_SIDE,
    resize_mode="squash",
    interpolation="bilinear",
    to_rgb="before_on_white",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
_THUMBNAIL = _LOOK.model_copy(
    update={"size": THUMBNAIL_SIDE, "resize_to": THUMBNAIL_SIDE, "resize_mode": "shortest", "interpolation": "bicubic"}
)
LOOK = canonical_json(_LOOK.model_dump(mode="json"))
THUMBNAIL = canonical_json(_THUMBNAIL.model_dump(mode="json"))

_READERS = 8
_QUALITY = 72


@dataclass(frozen=True)
class Looks:
    """What was seen of `R` pictures.

    Attributes:
        rows: int64 [R], item rows, ascending.
        figures: float32 [R, 4], the columns of `blank.FIGURES`.
        signatures: uint8 [R, 16, 16, 3], the picture in 16 x 16 cells.
        refused: (item row, why) of pictures that could not be read or decoded.
    """

    rows: NDArray[np.int64]
    figures: NDArray[np.float32]
    signatures: NDArray[np.uint8]
    refused: tuple[tuple[int, Refused], ...] = ()


def look_at(
    references: Sequence[tuple[int, str]], read: Read, decode: Decode, *, on_progress: OnProgress | None = None
) -> Looks:
    """Look at the pictures of (item row, reference); some 800 bytes are kept of each."""
    rows: list[int] = []
    figures: list[NDArray[np.float32]] = []
    signatures: list[NDArray[np.uint8]] = []
    refused: list[tuple[int, Refused]] = []
    for done, (row, pixels) in enumerate(_decoded(sorted(references), read, decode, refused), 1):
        if isinstance(pixels, Refused):
            refused.append((row, pixels))
        else:
            rows.append(row)
            figures.append(figures_of(pixels))
            signatures.append(_signature(pixels))
        if on_progress:
            on_progress(min(done + len(refused), len(references)), len(references))
    side = SIGNATURE_SIDE
    return Looks(
        rows=np.array(rows, dtype=np.int64),
        figures=np.array(figures, dtype=np.float32).reshape(-1, len(FIGURES)),
        signatures=np.array(signatures, dtype=np.uint8).reshape(-1, side, side, 3),
        refused=tuple(sorted(refused, key=lambda each: each[0])),
    )


def thumbnails(references: Sequence[tuple[int, str]], read: Read, decode: Decode) -> dict[int, bytes]:
    """Item row → a small JPEG, of those that can be read and decoded; the middle square of each picture."""
    found = {}
    for row, pixels in _decoded(sorted(set(references)), read, decode, []):
        if not isinstance(pixels, Refused):
            sink = io.BytesIO()
            Image.fromarray(pixels).save(sink, "JPEG", quality=_QUALITY, optimize=True)
            found[row] = sink.getvalue()
    return found


def _decoded(
    references: Sequence[tuple[int, str]], read: Read, decode: Decode, unreadable: list[tuple[int, Refused]]
) -> Iterator[tuple[int, Features | Refused]]:
    """Read a few ahead in threads, decode in the order given; what cannot be read goes to `unreadable`."""

    def contents() -> Iterator[tuple[int, bytes]]:
        source = iter(references)
        waiting: deque[tuple[int, Future[bytes]]] = deque()
        with ThreadPoolExecutor(_READERS) as pool:
            while True:
                for row, reference in islice(source, 2 * _READERS - len(waiting)):
                    waiting.append((row, pool.submit(read, reference)))
                if not waiting:
                    return
                row, future = waiting.popleft()
                try:
                    content = future.result()
                except Refused as refusal:
                    unreadable.append((row, refusal))
                else:
                    yield row, content

    return decode(contents())


def _signature(pixels: Features) -> NDArray[np.uint8]:
    cell = LOOK_SIDE // SIGNATURE_SIDE
    cells = pixels.reshape(SIGNATURE_SIDE, cell, SIGNATURE_SIDE, cell, 3).mean(axis=(1, 3))
    signature: NDArray[np.uint8] = np.round(cells).astype(np.uint8)
    return signature
