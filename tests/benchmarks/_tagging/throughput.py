"""What a tag job costs beside its model: the whole path against the bare model in a plain loop."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.onnx_encoder import OnnxEncoder
from embeddings.registry import load_encoders
from embeddings.tagging.heads import Head
from embeddings.tagging.image_heads import image_classifier_head
from tests.benchmarks._table import timed_rounds
from tests.benchmarks._tagging.photographs import SPEC, THREADS, photograph_paths, tagged

BAR = 0.85


def figures(data: Path, *, rounds: int = 5, n: int = 500) -> list[dict[str, Any]]:
    """Pictures a second of the tag job over those of the loop, on `n` photographs.

    Ours reads, hashes, decodes in isolated processes, embeds into a store, reads back and judges; the loop reads,
    decodes with the same code, runs the same ONNX model and multiplies by the same classifier. Both have all cores.
    """
    paths = photograph_paths(data)[:n]
    encoder = load_encoders(SPEC, "none", device="cpu", threads=THREADS).image
    assert encoder is not None
    head = image_classifier_head(SPEC, None)
    loop = _plain_loop(paths, OnnxEncoder(encoder.onnx_form(), threads=THREADS), head)
    same = float((tagged(paths, encoder, head).argmax(axis=1) == loop()).mean())
    seconds = timed_rounds(lambda: tagged(paths, encoder, head), loop, rounds=rounds)
    ratios = [theirs / mine for mine, theirs in seconds]
    mine, theirs = (min(each) for each in zip(*seconds, strict=True))
    return [
        {
            "what": "image: throughput of the whole tag job over the bare model loop",
            "value": statistics.median(ratios),
            "low": min(ratios),
            "high": max(ratios),
            "bar": BAR,
            "at_least": True,
            "note": f"median of {rounds} rounds, ratio of the minima {theirs / mine:.2f}; {len(paths)} photographs, "
            f"{len(paths) / mine:.0f} against {len(paths) / theirs:.0f} a second at best, {THREADS} threads each; "
            f"first class the same for {same:.1%}",
        }
    ]


def _plain_loop(paths: list[Path], encoder: OnnxEncoder, head: Head) -> Callable[[], NDArray[np.int64]]:
    weights, bias = head.weights["project.image"], head.weights["bias"]
    size = encoder.limits.max_items

    def run() -> NDArray[np.int64]:
        found = []
        for start in range(0, len(paths), size):
            features = [encoder.preprocess(path.read_bytes()) for path in paths[start : start + size]]
            found.append((encoder.postprocess(encoder.forward(features)) @ weights + bias).argmax(axis=1))
        return np.concatenate(found)

    return run
