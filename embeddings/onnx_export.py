"""A torch tower → ONNX bytes that depend on nothing but its weights and structure."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

OPSET = 17
OUTPUT = "output_vectors"  # no layer of the libraries used here bears this name


def onnx_bytes(tower: torch.nn.Module, example: dict[str, torch.Tensor], input_names: tuple[str, ...]) -> bytes:
    """The graph with float32 weights; dimension 0 of every input, and the length of texts, stay free.

    The trace-based exporter is used: it takes 1-2 s where the newer one takes 8-10 s, and its graphs are
    checked against torch for several batch sizes and lengths in the tests.
    """
    texts = ("input_ids", "attention_mask")
    axes = {name: {0: "B", 1: "L"} if name in texts else {0: "B"} for name in input_names} | {OUTPUT: {0: "B"}}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode(), _plain_attention():
        warnings.simplefilter("ignore")
        path = Path(folder) / "tower.onnx"
        torch.onnx.export(
            tower,
            tuple(example[name] for name in input_names),
            path,
            input_names=list(input_names),
            output_names=[OUTPUT],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
        return _stripped(onnx.load(path))


@contextmanager
def _plain_attention() -> Iterator[None]:
    """torch's fused attention has no form in ONNX."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _stripped(model: Any) -> bytes:
    """Serialised without what differs between machines and runs: producer, doc strings (source paths), metadata."""
    model.ClearField("producer_name")
    model.ClearField("producer_version")
    model.ClearField("doc_string")
    del model.metadata_props[:]
    model.graph.doc_string = ""
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    content: bytes = model.SerializeToString(deterministic=True)
    return content
