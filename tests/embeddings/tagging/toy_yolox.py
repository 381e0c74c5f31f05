"""A YOLOX-style ONNX file that always sees the same objects, in each of the forms that exporters write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

SIDE, N_CELLS, N_CLASSES = 64, 84, 3
OBJECTS = [(2, 0.9, (10.0, 20.0, 30.0, 36.0)), (0, 0.6, (40.0, 8.0, 56.0, 24.0))]
"""Class, confidence and corners on the canvas."""


def save_toy(path: Path, *, batch: int | str = 1, decoded: bool = False, logits: bool = False) -> Path:
    """Write it: input [batch, 3, 64, 64], output [batch, 84, 8]."""
    graph = helper.make_graph(
        [
            # Nothing of the picture but whether it is there: 0 times its first level.
            helper.make_node("Slice", ["images", "zeros", "ones", "axes"], ["level"]),
            helper.make_node("Squeeze", ["level", "last"], ["one"]),
            helper.make_node("Mul", ["one", "nothing"], ["none"]),
            helper.make_node("Add", ["none", "outputs"], ["output"]),
        ],
        "toy",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, N_CELLS, 5 + N_CLASSES])],
        [
            numpy_helper.from_array(np.zeros(3, np.int64), "zeros"),
            numpy_helper.from_array(np.ones(3, np.int64), "ones"),
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array([3]), "last"),
            numpy_helper.from_array(np.zeros(1, np.float32), "nothing"),
            numpy_helper.from_array(_outputs(decoded, logits), "outputs"),
        ],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _outputs(decoded: bool, logits: bool) -> np.ndarray:
    """float32 [1, 84, 8]."""
    cells = [(column, row, stride) for stride in (8, 16, 32) for row in range(SIDE // stride)
             for column in range(SIDE // stride)]  # fmt: skip
    outputs = np.zeros((1, N_CELLS, 5 + N_CLASSES))
    outputs[0, :, 4:] = 0.001
    for label, confidence, (x0, y0, x1, y1) in OBJECTS:
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        at = cells.index((int(centre[0] // 16), int(centre[1] // 16), 16))
        shift = [centre[axis] / 16 - cells[at][axis] for axis in (0, 1)]
        outputs[0, at, :4] = [*shift, np.log((x1 - x0) / 16), np.log((y1 - y0) / 16)]
        outputs[0, at, 4], outputs[0, at, 5 + label] = confidence / 0.98, 0.98
    if decoded:
        grid, stride = np.array(cells)[:, :2], np.array(cells)[:, 2:]
        outputs[0, :, :2] = (outputs[0, :, :2] + grid) * stride
        outputs[0, :, 2:4] = np.exp(outputs[0, :, 2:4]) * stride
    if logits:
        outputs[0, :, 4:] = np.log(outputs[0, :, 4:] / (1 - outputs[0, :, 4:]))
    return outputs.astype(np.float32)
