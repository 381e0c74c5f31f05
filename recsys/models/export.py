"""The two towers as ONNX files, for a service without torch. The same weights give the same bytes.

    query_tower.onnx    history float32 [B, T, D], event_types int64 [B, T], lengths int64 [B],
                        and where the model has profiles user_text float32 [B, P], user_text_mask bool [B]
                        → query float32 [B, D]
    item_tower.onnx     id_vector float32 [B, D], id_mask bool [B]; for each modality NAME float32 [B, P] and
                        NAME_mask bool [B]; where the model has categories, categories float32 [B, C]
                        → item float32 [B, D]

B and T are free, T >= 1 (an empty history is one padded row of length 0), T <= `max_history`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from recsys.models.item_tower import ItemTower
from recsys.models.model import TrainedModel
from recsys.models.query_tower import QueryTower

QUERY_TOWER_FILE = "query_tower.onnx"
ITEM_TOWER_FILE = "item_tower.onnx"
OPSET = 18


def export_towers(model: TrainedModel, folder: Path) -> None:
    """Write both files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    export_query_tower(model, folder / QUERY_TOWER_FILE)
    export_item_tower(model, folder / ITEM_TOWER_FILE)


def export_query_tower(model: TrainedModel, path: Path) -> None:
    """Write the query tower; inputs and output as in the module's docstring."""
    dim, n, t = model.spec.model.dim, 2, min(3, model.spec.model.max_history)
    inputs = {
        "history": torch.zeros(n, t, dim),
        "event_types": torch.zeros(n, t, dtype=torch.int64),
        "lengths": torch.full((n,), t, dtype=torch.int64),
    }
    if model.spec.user_text is not None:
        inputs["user_text"] = torch.zeros(n, model.spec.user_text.dim)
        inputs["user_text_mask"] = torch.ones(n, dtype=torch.bool)
    _export(model.towers.query, inputs, "query", path)


def export_item_tower(model: TrainedModel, path: Path) -> None:
    """Write the item tower without its table; inputs and output as in the module's docstring."""
    n = 2
    inputs = {"id_vector": torch.zeros(n, model.spec.model.dim), "id_mask": torch.ones(n, dtype=torch.bool)}
    for modality in model.spec.modalities:
        inputs[modality.name] = torch.zeros(n, modality.dim)
        inputs[f"{modality.name}_mask"] = torch.ones(n, dtype=torch.bool)
    if model.spec.category_names:
        inputs["categories"] = torch.zeros(n, len(model.spec.category_names))
    _export(_FlatItemTower(model.towers.item), inputs, "item", path)


class _FlatItemTower(nn.Module):
    """The item tower with one argument for each ONNX input."""

    def __init__(self, tower: ItemTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, id_vector: Tensor, id_mask: Tensor, *content: Tensor) -> Tensor:
        n_modalities = len(self.tower.modality_names)
        modalities = [(content[2 * at], content[2 * at + 1]) for at in range(n_modalities)]
        categories = content[2 * n_modalities] if self.tower.categories is not None else None
        vectors: Tensor = self.tower(id_vector, id_mask, modalities, categories)
        return vectors


def _export(tower: QueryTower | _FlatItemTower, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    """Trace one tower, strip what is not arithmetic, check the graph, and write it."""
    axes = {name: {0: "B", 1: "T"} if name in ("history", "event_types") else {0: "B"} for name in inputs}
    with _quiet():
        torch.onnx.export(
            tower.eval(),
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={**axes, output: {0: "B"}},
            opset_version=OPSET,
            dynamo=False,
        )
    graph = onnx.load(str(path))
    _strip(graph)
    onnx.checker.check_model(graph)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def _strip(graph: onnx.ModelProto) -> None:
    """Remove documentation and traces (they name files of the machine that exported), and number the nodes anew."""
    graph.doc_string, graph.producer_name, graph.producer_version = "", "", ""
    del graph.metadata_props[:]
    parts: Sequence[Any] = [graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.input]
    for part in [*parts, *graph.graph.output, *graph.graph.value_info]:
        part.ClearField("doc_string")
    for at, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{at}"
        del node.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on its own deprecation and on constant folding."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
