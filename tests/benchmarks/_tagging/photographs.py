"""The bundled model's own classes as tags of 500 photographs, one of each of 500 ImageNet classes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.embed import EmbedOptions, embed_items
from embeddings.encoder import Encoder
from embeddings.registry import load_encoders
from embeddings.sources.reader import open_reader
from embeddings.stored import gather
from embeddings.tagging.heads import Head
from embeddings.tagging.image_heads import image_classifier_head, imagenet_names
from embeddings.tagging.thresholds import wilson
from recsys.sources_config import SourcesConfig

SPEC = "bundled@260"
THREADS = os.cpu_count() or 1
BAR = 0.85


def figures(data: Path) -> list[dict[str, Any]]:
    """Top-1 and top-5; `data` is the folder of the test data, of which `tagging/images` is read."""
    paths = photograph_paths(data)
    head = image_classifier_head(SPEC, None)
    encoder = load_encoders(SPEC, "none", threads=THREADS).image
    assert encoder is not None
    confidences = tagged(paths, encoder, head)
    truth = labels_of(paths)
    order = np.argsort(-confidences, axis=1)
    found = []
    for k, bar in ((1, BAR), (5, None)):
        n_right = int((order[:, :k] == truth[:, None]).any(axis=1).sum())
        low, high = wilson(n_right, len(paths))
        found.append(
            {
                "what": f"image: the bundled model's classes on photographs, top-{k} accuracy",
                "value": n_right / len(paths),
                "low": low,
                "high": high,
                "bar": bar,
                "at_least": True,
                "note": f"{n_right} of {len(paths)}; {SPEC}, {encoder.compute}, vectors as stored (float16, length 1)",
            }
        )
    return found


def photograph_paths(data: Path) -> list[Path]:
    """Raises FileNotFoundError: they are not there."""
    paths = sorted((data / "tagging" / "images").glob("*.webp"))
    if not paths:
        raise FileNotFoundError(f"there are no photographs in {data / 'tagging' / 'images'}")
    return paths


def labels_of(paths: list[Path]) -> NDArray[np.int64]:
    """Each file is named after its class's synset: that class's place."""
    places = {names[-1]: place for place, names in enumerate(imagenet_names())}
    return np.array([places[path.name.partition("_")[0].removesuffix(path.suffix)] for path in paths])


def tagged(paths: list[Path], encoder: Encoder, head: Head) -> NDArray[np.float32]:
    """What a tag job does: read, decode in isolated processes, embed into a store, read back, judge; float32 [N, C]."""
    with tempfile.TemporaryDirectory() as scratch:
        store, cache = Path(scratch) / "store", Path(scratch) / "fetched"
        reader = open_reader(SourcesConfig(), items_folder=paths[0].parent, image_root=".", cache_folder=cache)
        items = [(path.name, path.name) for path in paths]
        report = embed_items(items, encoder, store, reader=reader, options=EmbedOptions(decode_workers=THREADS))
        vectors, present = gather(store, encoder.space, [report.content_hashes[path.name] for path in paths])
        head.require({"image": encoder.space})
        return head.confidences({"image": (vectors, present)})
