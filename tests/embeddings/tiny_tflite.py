"""A tflite classifier of waveforms written tensor by tensor: waveform → D numbers → L labels → their scores."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

S, D = 12, 4
_OPTIONS = schema.BuiltinOptions.FullyConnectedOptions


class TinyTflite:
    """The parts of the file, to be changed before `saved`.

    Attributes:
        body: float32 [D, samples of a frame]; the vector is relu(body @ frame).
        weights, bias: int8 [L, D] with a scale for each label, and float32 [L].
        fused: activation inside the last layer.
        ends: operators behind it.
        texts: files in the archive.
    """

    def __init__(self, labels: Sequence[str] = ("Dog", "Bark", "Rain"), *, frame_samples: int = S) -> None:
        rng = np.random.default_rng(0)
        self.body = rng.standard_normal((D, frame_samples)).astype(np.float32)
        self.weights = rng.integers(-127, 127, (len(labels), D)).astype(np.int8)
        self.scales = np.linspace(0.01, 0.03, len(labels)).astype(np.float32)
        self.bias = rng.standard_normal(len(labels)).astype(np.float32)
        self.input_shape = [frame_samples]
        self.fused = schema.ActivationFunctionType.NONE
        self.ends: list[int] = [schema.BuiltinOperator.LOGISTIC]
        self.texts = {"labels.txt": "\n".join(labels) + "\n"}

    @property
    def meant(self) -> np.ndarray:
        """float32 [L, D]: the weights as numbers."""
        return self.weights * self.scales[:, None]

    def vector(self, frame: np.ndarray) -> np.ndarray:
        return np.maximum(self.body @ frame, 0)

    def saved(self) -> bytes:
        self._buffers = [schema.BufferT()]
        self._tensors: list[Any] = []
        self._codes: list[int] = []
        self._operators: list[Any] = []
        n_labels = len(self.weights)
        frame = self._tensor(self.input_shape)
        vector = self._tensor([1, D])
        relu = schema.ActivationFunctionType.RELU
        self._layer([frame, self._tensor(self.body.shape, self.body), -1], vector, relu)
        last = self._tensor([1, n_labels])
        weights = self._tensor([n_labels, D], self.weights)
        self._scale(weights)
        self._layer([vector, weights, self._tensor([n_labels], self.bias)], last, self.fused)
        for code in self.ends:
            following = self._tensor([1, n_labels])
            self._operator(code, [last], following)
            last = following
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self._tensors, self._operators, [frame], [last]
        return self._packed(graph) + self._archive()

    def _packed(self, graph: Any) -> bytes:
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.operatorCodes = []
        for code in self._codes:
            told = schema.OperatorCodeT()
            told.builtinCode, told.deprecatedBuiltinCode, told.version = code, code, 1
            model.operatorCodes.append(told)
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _archive(self) -> bytes:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for name, text in self.texts.items():
                file.writestr(name, text)
        return archive.getvalue() if self.texts else b""

    def _tensor(self, shape: Sequence[int], constant: np.ndarray | None = None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), schema.TensorType.FLOAT32, f"t{len(self._tensors)}"
        if constant is not None:
            if constant.dtype == np.int8:
                tensor.type = schema.TensorType.INT8
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(constant.tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _scale(self, tensor: int) -> None:
        told = schema.QuantizationParametersT()
        told.scale, told.zeroPoint, told.quantizedDimension = self.scales.tolist(), [0] * len(self.scales), 0
        self._tensors[tensor].quantization = told

    def _layer(self, inputs: Sequence[int], output: int, activation: int) -> None:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        self._operator(schema.BuiltinOperator.FULLY_CONNECTED, inputs, output)
        self._operators[-1].builtinOptionsType, self._operators[-1].builtinOptions = _OPTIONS, options

    def _operator(self, code: int, inputs: Sequence[int], output: int) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self._codes), list(inputs), [output]
        if code == schema.BuiltinOperator.SOFTMAX:
            operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
            operator.builtinOptions = schema.SoftmaxOptionsT()
            operator.builtinOptions.beta = 1.0
        self._codes.append(code)
        self._operators.append(operator)
