"""Small rankers as ONNX whose right answers are known: logistic regressions, an output each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def write_ranker(
    path: Path,
    weights: Mapping[str, Sequence[float]],
    biases: Mapping[str, float] | None = None,
    *,
    features: Sequence[str] = ("similarity", "transition", "log_popularity", "is_new"),
    query_dim: int = 0,
    named: bool = True,
) -> Path:
    """p = sigmoid(features · weights + bias + sum of the query), for each output."""
    constants = [
        numpy_helper.from_array(np.array(list(weights.values()), np.float32).T.copy(), "weights"),
        numpy_helper.from_array(np.array([(biases or {}).get(name, 0.0) for name in weights], np.float32), "biases"),
        numpy_helper.from_array(np.ones(len(weights), np.int64), "one_each"),
    ]
    # All outputs by one product: a node costs more than its arithmetic.
    nodes = [helper.make_node("Gemm", ["features", "weights", "biases"], ["of_features"])]
    if query_dim:
        nodes.append(helper.make_node("ReduceSum", ["query"], ["of_query"], keepdims=0))
        nodes.append(helper.make_node("Add", ["of_features", "of_query"], ["logits"]))
    nodes.append(helper.make_node("Sigmoid", ["logits" if query_dim else "of_features"], ["probabilities"]))
    nodes.append(helper.make_node("Split", ["probabilities", "one_each"], list(weights), axis=1))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["C", len(features)])]
    if query_dim:
        inputs.append(helper.make_tensor_value_info("query", TensorProto.FLOAT, [query_dim]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["C", 1]) for name in weights]
    graph = helper.make_graph(nodes, "ranker", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if named:
        helper.set_model_props(model, {"features": json.dumps(list(features))})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def logistic(features: NDArray[np.float32], weights: Sequence[float], bias: float = 0.0) -> NDArray[np.float64]:
    """What such a ranker must answer: float64 [C]."""
    return 1 / (1 + np.exp(-(features.astype(np.float64) @ np.array(weights) + bias)))
