"""An encoder in three phases: preprocess (cpu, per item), forward (device, per batch), postprocess.

The phases are apart so that a job can decode in worker threads while the device computes. An encoder names its
embedding space; the torch form and the ONNX form of the same weights share one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embeddings.batching import BatchLimits, batches
from embeddings.preprocess.features import Content, Features, Preprocessor
from recsys.config import Config
from recsys.manifest import EmbeddingSpace, canonical_json

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class OnnxForm:
    """An encoder as files: what a release carries, and all that the service needs.

    Attributes:
        model: the ONNX graph, or the file it lies in; the same weights give the same bytes.
        space: its embedding space, whose `preprocessing` is the configuration of the first phase.
        tokenizer_json: text encoders only.
    """

    model: bytes | Path
    space: EmbeddingSpace
    tokenizer_json: str | None


class Encoder(Protocol):
    """Content → vectors float32 [B, D] of one embedding space."""

    @property
    def space(self) -> EmbeddingSpace: ...

    @property
    def preprocessor(self) -> Preprocessor: ...

    def preprocess(self, content: Content) -> Features:
        """One item, ready for the device; safe from many threads. Raises InputError."""

    def forward(self, features: Sequence[Features]) -> Vectors:
        """One batch on the device: float32 [B, D], not normalised."""

    def postprocess(self, outputs: Vectors) -> Vectors:
        """float32 [B, D] with L2 norm 1."""

    def encode(self, contents: Sequence[Content]) -> Vectors:
        """The three phases: float32 [B, D] in the order given. Raises InputError."""

    def encode_features(self, features: Sequence[Features], limits: BatchLimits) -> Vectors:
        """The last two phases in batches: float32 [B, D] in the order given."""

    def onnx_form(self) -> OnnxForm:
        """The same weights as ONNX."""


class BaseEncoder(ABC):
    """What all encoders share: everything but the forward pass."""

    def __init__(self, space: EmbeddingSpace, preprocessor: Preprocessor) -> None:
        self.space = space
        self.preprocessor = preprocessor

    def preprocess(self, content: Content) -> Features:
        return self.preprocessor(content)

    @abstractmethod
    def forward(self, features: Sequence[Features]) -> Vectors: ...

    @abstractmethod
    def onnx_form(self) -> OnnxForm: ...

    def postprocess(self, outputs: Vectors) -> Vectors:
        norms = np.linalg.norm(outputs, axis=1, keepdims=True)
        normalised: Vectors = (outputs / np.maximum(norms, 1e-12)).astype(np.float32)
        return normalised

    def encode(self, contents: Sequence[Content]) -> Vectors:
        features = [self.preprocess(content) for content in contents]
        return self.encode_features(features, BatchLimits())

    def encode_features(self, features: Sequence[Features], limits: BatchLimits) -> Vectors:
        vectors = np.zeros((len(features), self.space.dim), dtype=np.float32)
        for batch in batches(features, limits):
            vectors[batch] = self.postprocess(self.forward([features[position] for position in batch]))
        return vectors


def space_of(encoder: str, modality: str, weights_sha256: str, preprocessing: Config, dim: int) -> EmbeddingSpace:
    """The embedding space of normalised vectors compared by cosine, as all encoders here make them."""
    return EmbeddingSpace(
        encoder=encoder,
        modality=modality,
        weights_sha256=weights_sha256,
        preprocessing=canonical_json(preprocessing.model_dump(mode="json")),
        dim=dim,
    )
