"""A tflite file of a classifier of waveforms, taken apart: the network up to its last vector, and the classifier on it.

What it takes is told by structure, not by names or places: one waveform goes in; the last fully connected layer turns
the vector before it into one logit a label, and nothing but an activation follows. Labels lie in the file as it is
customary, in a text file of a zip archive appended to it.

Letters: S samples of a frame, D width of the vector, L labels.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from recsys.errors import ConfigError, WeightsUnavailable
from recsys.manifest import sha256_bytes

Floats = NDArray[np.float32]
Activation = Literal["softmax", "sigmoid"]

MAX_BYTES = 1 << 30
_OPERATORS = schema.BuiltinOperator
_CARRIES = {_OPERATORS.QUANTIZE, _OPERATORS.DEQUANTIZE, _OPERATORS.RESHAPE, _OPERATORS.SQUEEZE}
_ACTIVATIONS: dict[int, Activation] = {_OPERATORS.LOGISTIC: "sigmoid", _OPERATORS.SOFTMAX: "softmax"}
_NUMBERS = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT32: np.int32,
}


@dataclass(frozen=True)
class WaveformModel:
    """One file's model.

    Attributes:
        body: a tflite model whose first output is the vector, `D` numbers.
        scale, zero_point: a number q of the vector means scale * (q - zero_point); 1 and 0 where it is float.
        weights, bias: the classifier, float32 [D, L] and [L]: logits = vector @ weights + bias.
        activation: what makes scores of the logits.
        weights_sha256: of the file.
    """

    body: bytes
    frame_samples: int
    scale: float
    zero_point: int
    weights: Floats
    bias: Floats
    activation: Activation
    labels: tuple[str, ...]
    weights_sha256: str

    @property
    def dim(self) -> int:
        return len(self.weights)

    @property
    def is_quantised(self) -> bool:
        return self.scale != 1.0 or self.zero_point != 0


def read_tflite(path: Path) -> WaveformModel:
    """The model in a file.

    Raises:
        WeightsUnavailable: there is no such file.
        ConfigError: it is no tflite file, or a model of another shape; the message says what is wanted.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsUnavailable(
            f"{path} cannot be read ({error.strerror}): put a YAMNet-style tflite file there"
        ) from None
    _require_valid(content, path)
    body = bytearray(content)
    graph = _Graph(body, path)
    (layer, vector), weights, bias = graph.classifier()
    activation = graph.activation(layer)
    labels = _labels(content, path)
    if len(labels) != weights.shape[1]:
        raise graph.refusal(f"it holds {len(labels)} labels for {weights.shape[1]} classes")
    scale, zero_point = graph.quantisation(vector)
    frame_samples = graph.frame_samples()
    graph.give_out(vector)
    return WaveformModel(
        bytes(body), frame_samples, scale, zero_point, weights, bias, activation, labels, sha256_bytes(content)
    )


class _Graph:
    """The first subgraph of a model, over bytes that `give_out` changes."""

    def __init__(self, body: bytearray, path: Path) -> None:
        self.path = path
        self.model: Any = schema.Model.GetRootAs(body, 0)
        self.graph: Any = self.model.Subgraphs(0)
        self.codes = [self._code(at) for at in range(self.graph.OperatorsLength())]

    def refusal(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is no classifier of waveforms as YAMNet is: {why}. Name a tflite file that takes one frame "
            "of samples, ends in a fully connected layer and an activation, and holds its list of labels"
        )

    def frame_samples(self) -> int:
        if self.graph.InputsLength() != 1:
            raise self.refusal(f"it takes {self.graph.InputsLength()} inputs")
        tensor = self.graph.Tensors(self.graph.Inputs(0))
        shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
        if tensor.Type() != schema.TensorType.FLOAT32 or not shape or any(n != 1 for n in shape[:-1]) or shape[-1] < 2:
            raise self.refusal(f"its input of shape {shape} is no frame of float samples")
        return int(shape[-1])

    def classifier(self) -> tuple[tuple[int, int], Floats, Floats]:
        """((place of the layer among the operators, tensor that it reads), weights [D, L], bias [L])."""
        places = [at for at, code in enumerate(self.codes) if code == _OPERATORS.FULLY_CONNECTED]
        if not places:
            raise self.refusal("it has no fully connected layer")
        operator = self.graph.Operators(places[-1])
        vector, weights = operator.Inputs(0), self._constant(operator.Inputs(1))
        if weights.ndim != 2 or self._n_values(vector) != weights.shape[1]:
            raise self.refusal(f"its last layer has weights of shape {list(weights.shape)} on another vector")
        options = schema.FullyConnectedOptions()
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        if options.FusedActivationFunction() != schema.ActivationFunctionType.NONE:
            raise self.refusal("its last layer has an activation of its own")
        has_bias = operator.InputsLength() > 2 and operator.Inputs(2) >= 0
        bias = self._constant(operator.Inputs(2)) if has_bias else np.zeros(len(weights), np.float32)
        return (places[-1], vector), np.ascontiguousarray(weights.T), bias.ravel()

    def activation(self, layer: int) -> Activation:
        """Of the scores; there must be one, and nothing that changes numbers beside it."""
        behind = [code for code in self.codes[layer + 1 :] if code not in _CARRIES]
        if len(behind) != 1 or behind[0] not in _ACTIVATIONS:
            raise self.refusal("no single sigmoid or softmax follows its last layer")
        return _ACTIVATIONS[behind[0]]

    def quantisation(self, tensor: int) -> tuple[float, int]:
        scales, zero_points, _ = self._scales(tensor)
        if len(scales) > 1:
            raise self.refusal("its vector has more than one scale")
        return (float(scales[0]), int(zero_points[0])) if len(scales) else (1.0, 0)

    def give_out(self, tensor: int) -> None:
        """Let the model's first output be this tensor: one number in the file."""
        self.graph.OutputsAsNumpy()[0] = tensor

    def _code(self, at: int) -> int:
        code = self.model.OperatorCodes(self.graph.Operators(at).OpcodeIndex())
        return max(int(code.BuiltinCode()), int(code.DeprecatedBuiltinCode()))

    def _n_values(self, tensor: int) -> int:
        shape = self.graph.Tensors(tensor)
        return int(np.prod([shape.Shape(axis) for axis in range(shape.ShapeLength())], dtype=np.int64))

    def _scales(self, tensor: int) -> tuple[NDArray[Any], NDArray[Any], int]:
        """(scales, zero points, axis along which there is one each); empty where the numbers mean themselves."""
        told = self.graph.Tensors(tensor).Quantization()
        if told is None or not told.ScaleLength():
            return np.empty(0), np.empty(0), 0
        return told.ScaleAsNumpy(), told.ZeroPointAsNumpy(), int(told.QuantizedDimension())

    def _constant(self, tensor: int) -> Floats:
        """A tensor that lies in the file, as the numbers that it means."""
        told = self.graph.Tensors(tensor)
        buffer = self.model.Buffers(told.Buffer())
        if told.Type() not in _NUMBERS or not buffer.DataLength():
            raise self.refusal("the weights of its last layer do not lie in it as float32 or int8")
        stored = buffer.DataAsNumpy().view(_NUMBERS[told.Type()])
        values = stored.reshape([told.Shape(axis) for axis in range(told.ShapeLength())]).astype(np.float64)
        scales, zero_points, axis = self._scales(tensor)
        if len(scales):
            along = [-1 if each == axis and len(scales) > 1 else 1 for each in range(values.ndim)]
            values = (values - np.resize(zero_points, len(scales)).reshape(along)) * scales.reshape(along)
        meant: Floats = values.astype(np.float32)
        return meant


def _require_valid(content: bytes, path: Path) -> None:
    """The library's own verification: after it, offsets in the file lead nowhere else."""
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES} bytes")
        Interpreter(model_content=content, num_threads=1)
    except ValueError as error:
        raise ConfigError(f"{path} is no tflite model ({error}): name a YAMNet-style tflite file") from None


def _labels(content: bytes, path: Path) -> tuple[str, ...]:
    """The lines of the text file inside."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".txt")]
            if len(names) != 1:
                raise ConfigError(f"{path} holds {len(names)} text files: its labels must lie in one of them")
            lines = archive.read(names[0]).decode("utf-8").splitlines()
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} holds no list of labels ({error}): take the file with metadata") from None
    return tuple(line.strip() for line in lines if line.strip())
