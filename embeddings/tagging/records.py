"""Encoders that give records instead of vectors: what a detector sees, what a recogniser of speech hears."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from embeddings.encoder import BaseEncoder, OnnxForm, Vectors
from embeddings.preprocess.features import Features
from embeddings.shards import records_array
from recsys.config import Config
from recsys.errors import ConfigError
from recsys.manifest import EmbeddingSpace, canonical_json


class RecordEncoder(BaseEncoder):
    """`records` in place of `forward`; the jobs' machinery treats them as it treats vectors."""

    @abstractmethod
    def records(self, features: Sequence[Features]) -> list[dict[str, Any]]:
        """One JSON object for each of `B` contents, in the order given."""

    def forward(self, features: Sequence[Features]) -> Vectors:
        """object [B] of bytes."""
        return records_array([canonical_json(each).encode() for each in self.records(features)])  # type: ignore[return-value]

    def postprocess(self, outputs: Vectors) -> Vectors:
        return outputs

    def onnx_form(self) -> OnnxForm:
        """Raises ConfigError: no release carries it."""
        raise ConfigError(f"{self.space.encoder} gives records: it works in jobs alone")


def record_space(
    name: str, modality: str, weights_sha256: str, preprocessing: Config, settings: Config
) -> EmbeddingSpace:
    """The space of the records that a model gives with these settings: other settings, other records."""
    return EmbeddingSpace(
        encoder=f"{name} {canonical_json(settings.model_dump(mode='json'))}",
        modality=modality,
        weights_sha256=weights_sha256,
        preprocessing=canonical_json(preprocessing.model_dump(mode="json")),
        dim=0,
        normalised=False,
        similarity="none",
    )
