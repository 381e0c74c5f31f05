"""A fake encoder that ships: no weights, no torch, milliseconds; near for equal words, colours or pitches.

Its modalities share a width but not a meaning: a red picture is not near the word red.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from embeddings.encoder import BaseEncoder, OnnxForm, Vectors, space_of
from embeddings.preprocess.fake import N_HASHED, FakePreprocessConfig, FakePreprocessor
from embeddings.preprocess.features import Features
from recsys.manifest import sha256_bytes

DIM = 64
_N_MEANING = {"text": 1024, "image": 3 * 4 * 4, "audio": 64}


class FakeEncoder(BaseEncoder):
    """One seeded random projection of the fake features: near inputs stay near (Johnson-Lindenstrauss)."""

    def __init__(self, modality: Literal["image", "text", "audio"], *, dim: int = DIM, seed: int = 0) -> None:
        config = FakePreprocessConfig(modality=modality, n_meaning=_N_MEANING[modality])
        shape = (config.n_meaning + N_HASHED, dim)
        projection = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) / np.float32(dim**0.5)
        self._projection: Vectors = projection.astype(np.float32)
        weights = sha256_bytes(self._projection.tobytes())
        super().__init__(space_of("fake", modality, weights, config, dim), FakePreprocessor(config))

    def forward(self, features: Sequence[Features]) -> Vectors:
        vectors: Vectors = self.preprocessor.collate(features)["features"] @ self._projection
        return vectors

    def onnx_form(self) -> OnnxForm:
        """A real graph of one matrix product, so that a release with the fake encoder is like any other."""
        from onnx import TensorProto, helper, numpy_helper

        graph = helper.make_graph(
            [helper.make_node("MatMul", ["features", "projection"], ["output_vectors"])],
            "fake",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", self._projection.shape[0]])],
            [helper.make_tensor_value_info("output_vectors", TensorProto.FLOAT, ["B", self._projection.shape[1]])],
            [numpy_helper.from_array(self._projection, "projection")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return OnnxForm(model.SerializeToString(deterministic=True), self.space, None)
