"""The ml1m posters and plots as vectors of the bundled encoders, kept under the system's temp folder between runs."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.encoder import Encoder
from embeddings.item_text import item_text
from embeddings.registry import load_encoders
from recsys.manifest import EmbeddingSpace, fingerprint

AT_ONCE = 256
WORDS = "{title}. {description}"
"""Title and plot: a template with {categories} would give the answer away."""


@dataclass(frozen=True)
class Movies:
    """`N` movies.

    Attributes:
        vectors: image and text: float32 [N, D], bool [N] present.
        genres: float32 [N, C].
    """

    item_ids: tuple[str, ...]
    vectors: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]
    spaces: dict[str, EmbeddingSpace]
    genres: NDArray[np.float32]
    genre_names: tuple[str, ...]


def movies(data: Path) -> Movies:
    """Every movie of the folder ml1m; a minute or two at the first call."""
    lines = (data / "ml1m" / "items.jsonl").read_text(encoding="utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    pair = load_encoders("bundled", "bundled", threads=os.cpu_count() or 1)
    assert pair.image is not None
    assert pair.text is not None
    pictures = [data / "ml1m" / item["image"] if item["image"] else None for item in items]
    there = [path if path is not None and path.is_file() else None for path in pictures]
    texts = [item_text(item["title"], item["description"], template=WORDS) for item in items]
    names = tuple(sorted({genre for item in items for genre in item["categories"]}))
    genres = np.array([[name in item["categories"] for name in names] for item in items], np.float32)
    vectors = {
        "image": _encoded(pair.image, [None if path is None else path.read_bytes() for path in there]),
        "text": _encoded(pair.text, texts),
    }
    spaces = {"image": pair.image.space, "text": pair.text.space}
    return Movies(tuple(item["item_id"] for item in items), vectors, spaces, genres, names)


def _encoded(
    encoder: Encoder, contents: list[bytes | None] | list[str | None]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    present = np.array([content is not None for content in contents])
    key = fingerprint({"space": encoder.space.model_dump(), "n": len(contents), "template": WORDS})
    kept = Path(tempfile.gettempdir()) / f"recsys-bench-posters-{key}.npy"
    if not kept.exists():
        vectors = np.zeros((len(contents), encoder.space.dim), np.float32)
        rows = np.flatnonzero(present)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            vectors[part] = encoder.encode([contents[row] for row in part])  # type: ignore[misc]
        working = kept.with_suffix(".tmp.npy")
        np.save(working, vectors)
        os.replace(working, kept)
    return np.load(kept), present
