"""Vectors to measure indexes with: what the bundled text model says of real texts, cached in build/.

Titles, sentences and runs of words of the optional test data, read by the bundled MiniLM, rotated onto their
principal axes, cut to `dim` and scaled to length 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

CACHE = Path(__file__).resolve().parents[2] / "build" / "ann_vectors"
MAX_WORDS = 14
"""Of one text: short texts cost some milliseconds each."""
STRIDES = (7, 3)
"""A run of words begins every seventh word; then, where those are not enough, every third."""
ENCODED_AT_ONCE = 2048


def real_vectors(n: int, dim: int, *, shared_data: Path, threads: int = 1) -> Vectors:
    """float32 [n, dim] with length 1, no text twice, in an order drawn once.

    The first call of an `n` encodes (about 4 CPU-ms a text), later ones read build/.

    Raises:
        ValueError: there are fewer than `n` different texts, or the model gives fewer than `dim` numbers.
    """
    texts = _texts(n, shared_data)
    key = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    path = CACHE / f"{n}-{key}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part.npy")
        np.save(unfinished, _encoded(texts, threads))
        unfinished.replace(path)
    return _reduced(np.load(path).astype(np.float32), dim)


def synthetic_vectors(n: int, dim: int, *, seed: int = 0) -> Vectors:
    """float32 [n, dim] with length 1 where the test data is absent: clusters of clusters with a falling spectrum."""
    rng = np.random.default_rng(seed)
    axes = (1 + np.arange(dim, dtype=np.float32)) ** np.float32(-0.35)
    topics = rng.standard_normal((64, dim), dtype=np.float32)
    themes = topics[rng.integers(0, 64, 2048)] + rng.standard_normal((2048, dim), dtype=np.float32)
    vectors = themes[rng.integers(0, 2048, n)] + rng.standard_normal((n, dim), dtype=np.float32)
    return _unit(vectors * axes)


def _texts(n: int, shared_data: Path) -> list[str]:
    found: dict[str, None] = {}
    for text in _all_texts(shared_data):
        found.setdefault(text)
        if len(found) >= 2 * n:
            break
    if len(found) < n:
        raise ValueError(f"the test data holds {len(found):,} different texts, and {n:,} are asked for")
    texts = list(found)
    return [texts[place] for place in np.random.default_rng(0).permutation(len(texts))[:n]]


def _all_texts(shared_data: Path) -> Iterator[str]:
    items = [
        json.loads(line)
        for folder in ("ml1m", "beauty", "ml1m-cold")
        for line in (shared_data / folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for item in items:
        yield _cut(item["title"].split())
        yield from _of_attributes(item)
    plots = [item.get("description") or "" for item in items]
    for plot in plots:
        for sentence in re.split(r"(?<=[.!?])\s+", plot):
            words = sentence.split()
            if len(words) >= 3:
                yield _cut(words)
    for stride in STRIDES:
        for plot in plots:
            words = plot.split()
            for start in range(0, max(len(words) - MAX_WORDS, 0), stride):
                yield _cut(words[start:])


def _of_attributes(item: dict[str, Any]) -> Iterator[str]:
    attributes = item.get("attributes") or {}
    if attributes.get("actors"):
        yield _cut(f"with {attributes['actors']}".split())
    if item.get("categories"):
        yield _cut(f"{', '.join(item['categories'])}: {item['title']}".split())


def _cut(words: list[str]) -> str:
    return " ".join(words[:MAX_WORDS])


def _encoded(texts: list[str], threads: int) -> NDArray[np.float16]:
    """float16 [n, 384], in pieces, so that a piece's tokens fit in the batches well."""
    from embeddings.batching import BatchLimits
    from embeddings.registry import load_encoders

    encoder = load_encoders("none", "bundled", device="cpu", threads=threads).text
    if encoder is None:
        raise ValueError("the bundled text encoder is switched off")
    vectors = np.empty((len(texts), encoder.space.dim), np.float16)
    for start in range(0, len(texts), ENCODED_AT_ONCE):
        features = [encoder.preprocess(text) for text in texts[start : start + ENCODED_AT_ONCE]]
        vectors[start : start + len(features)] = encoder.encode_features(features, BatchLimits())
    return vectors


def _reduced(vectors: Vectors, dim: int) -> Vectors:
    """The first `dim` principal axes (Pearson, 1901), scaled to length 1."""
    if vectors.shape[1] < dim:
        raise ValueError(f"the model gives {vectors.shape[1]} numbers a text, fewer than {dim}")
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return _unit((centred @ axes[:, ::-1][:, :dim].astype(np.float32)).astype(np.float32))


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(lengths, np.float32(1e-12)), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared_data", type=Path, help="folder with ml1m/, beauty/ and ml1m-cold/")
    parser.add_argument("--vectors", type=int, default=101_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    vectors = real_vectors(options.vectors, options.dim, shared_data=options.shared_data, threads=options.threads)
    print(f"{vectors.shape[0]:,} x {vectors.shape[1]} vectors after {time.perf_counter() - started:.0f} s in {CACHE}")


if __name__ == "__main__":
    main()
