"""Pictures to measure with: real photographs and posters, where they are at hand."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def photographs(n: int, longest_px: int, *, quality: int = 90) -> list[bytes]:
    """`n` different JPEG files with this longest side, made of 500 photographs; none where they are not at hand."""
    sources = sorted((SHARED / "tagging" / "images").glob("*.webp"))
    places = [divmod(number, len(sources)) for number in range(n if sources else 0)]
    return [_jpeg(sources[at], longest_px, quality, turn) for turn, at in places]


def posters(n: int) -> list[bytes]:
    """`n` WebP posters as they are; none where they are not at hand."""
    return [path.read_bytes() for path in sorted((SHARED / "ml1m" / "posters").glob("*.webp"))[:n]]


def _jpeg(source: Path, longest_px: int, quality: int, turn: int) -> bytes:
    image = Image.open(source).convert("RGB")
    scale = longest_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    # A photograph that is used twice must not be the same picture twice.
    image = image.crop((turn, 0, image.width, image.height))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
