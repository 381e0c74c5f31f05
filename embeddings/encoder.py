"""An encoder in three phases: preprocess (cpu, per item), forward (device, per batch), postprocess.

The phases are apart so that a job can decode elsewhere while the device computes. An encoder names its embedding
space; the torch form and the ONNX form of the same weights share one, in whatever precision they compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

    @property
    def compute(self) -> str:
        """What does the arithmetic, as `onnxruntime-fp32` or `torch-bf16-cuda`: another rounds differently."""

    @property
    def limits(self) -> BatchLimits:
        """The batches that suit it best where it computes."""

    def preprocess(self, content: Content) -> Features:
        """One item, ready for the device; safe from many threads. Raises InputError."""

    def forward(self, features: Sequence[Features]) -> Vectors:
        """One batch on the device: float32 [B, D], not normalised."""

    def postprocess(self, outputs: Vectors) -> Vectors:
        """float32 [B, D], with L2 norm 1 where the space says so."""

    def encode(self, contents: Sequence[Content]) -> Vectors:
        """The three phases: float32 [B, D] in the order given. Raises InputError."""

    def forward_many(self, batches: Iterable[list[Features]]) -> Iterator[Vectors]:
        """The last two phases, batch by batch, in the order given: float32 [B, D] each, as `postprocess` gives them.

        Lazy: it takes only a few batches more than it has handed back, those that are being computed.
        """

    def encode_features(self, features: Sequence[Features], limits: BatchLimits | None = None) -> Vectors:
        """The last two phases: float32 [B, D] in the order given; without `limits`, in the encoder's own."""

    def onnx_form(self) -> OnnxForm:
        """The same weights as ONNX."""


class BaseEncoder(ABC):
    """What all encoders share: everything but the forward pass.

    Attributes:
        parallel: batches that `forward_many` computes at once, each in a thread of its own.
    """

    def __init__(
        self,
        space: EmbeddingSpace,
        preprocessor: Preprocessor,
        *,
        compute: str = "numpy-fp32",
        limits: BatchLimits | None = None,
    ) -> None:
        self.space = space
        self.preprocessor = preprocessor
        self.compute = compute
        self.limits = limits or BatchLimits()
        self.parallel = 1

    def preprocess(self, content: Content) -> Features:
        return self.preprocessor(content)

    @abstractmethod
    def forward(self, features: Sequence[Features]) -> Vectors: ...

    @abstractmethod
    def onnx_form(self) -> OnnxForm: ...

    def postprocess(self, outputs: Vectors) -> Vectors:
        if not self.space.normalised:
            return outputs
        norms = np.linalg.norm(outputs, axis=1, keepdims=True)
        normalised: Vectors = (outputs / np.maximum(norms, 1e-12)).astype(np.float32)
        return normalised

    def encode(self, contents: Sequence[Content]) -> Vectors:
        return self.encode_features([self.preprocess(content) for content in contents])

    def forward_many(self, batches: Iterable[list[Features]]) -> Iterator[Vectors]:
        if self.parallel == 1:
            for features in batches:
                yield self._encoded(features)
            return
        with ThreadPoolExecutor(self.parallel) as pool:
            running: deque[Future[Vectors]] = deque()
            for features in batches:
                running.append(pool.submit(self._encoded, features))
                if len(running) > self.parallel:  # one waits, so that no thread does
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()

    def encode_features(self, features: Sequence[Features], limits: BatchLimits | None = None) -> Vectors:
        vectors = np.zeros((len(features), self.space.dim), dtype=np.float32)
        groups = batches(features, limits or self.limits)
        outputs = self.forward_many([features[position] for position in group] for group in groups)
        for group, output in zip(groups, outputs, strict=True):
            vectors[group] = output
        return vectors

    def _encoded(self, features: Sequence[Features]) -> Vectors:
        return self.postprocess(self.forward(features))


def space_of(encoder: str, modality: str, weights_sha256: str, preprocessing: Config, dim: int) -> EmbeddingSpace:
    """The embedding space of normalised vectors compared by cosine, as all encoders here make them."""
    return EmbeddingSpace(
        encoder=encoder,
        modality=modality,
        weights_sha256=weights_sha256,
        preprocessing=canonical_json(preprocessing.model_dump(mode="json")),
        dim=dim,
    )
