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
    nodes, constants = [], []
    for name, each in weights.items():
        column = np.array(each, np.float32)
        bias = np.array((biases or {}).get(name, 0.0), np.float32)
        constants += [numpy_helper.from_array(column, f"{name}_w"), numpy_helper.from_array(bias, f"{name}_b")]
        nodes += [
            helper.make_node("MatMul", ["features", f"{name}_w"], [f"{name}_dot"]),
            helper.make_node("Add", [f"{name}_dot", f"{name}_b"], [f"{name}_logit"]),
        ]
        if query_dim:
            nodes += [
                helper.make_node("ReduceSum", ["query"], [f"{name}_q"], keepdims=0),
                helper.make_node("Add", [f"{name}_logit", f"{name}_q"], [f"{name}_both"]),
            ]
        nodes.append(helper.make_node("Sigmoid", [f"{name}_both" if query_dim else f"{name}_logit"], [name]))
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["C", len(features)])]
    if query_dim:
        inputs.append(helper.make_tensor_value_info("query", TensorProto.FLOAT, [query_dim]))
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["C"]) for name in weights]
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
