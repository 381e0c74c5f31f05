"""A release's encoders as the service uses them: one picture, text or sound at a time, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.onnx_encoder import TOKENIZER_FILE, OnnxEncoder
from recsys.errors import CorruptArtifact, InputError, InvalidRequest

Vector = NDArray[np.float32]
MODALITIES = ("image", "text", "audio")


class OnnxContentEncoder:
    """`recsys.ports.ContentEncoder` over the encoder files of a release; safe from many threads.

    `encoders` holds the modalities that the release can encode, some of `MODALITIES`.
    """

    def __init__(self, encoders: Mapping[str, OnnxEncoder]) -> None:
        self._encoders = dict(encoders)

    @classmethod
    def open(cls, files: Mapping[str, Path], *, threads: int = 1) -> OnnxContentEncoder:
        """From files by name, as `embeddings.onnx_encoder.export` names them.

        Raises:
            MissingArtifact, CorruptArtifact: a file is not there, or is not what it should be.
        """
        encoders = {}
        for modality in MODALITIES:
            if f"{modality}_encoder.json" in files:
                tokenizer = files.get(TOKENIZER_FILE) if modality == "text" else None
                model = files.get(f"{modality}_encoder.onnx")
                if model is None:
                    raise CorruptArtifact(f"{modality}_encoder.onnx is missing: run `recsys release build` again")
                description = json.loads(files[f"{modality}_encoder.json"].read_bytes())
                encoders[modality] = OnnxEncoder.open(description, model, tokenizer, threads=threads)
        return cls(encoders)

    @property
    def space_ids(self) -> Mapping[str, str]:
        return {modality: encoder.space.space_id for modality, encoder in self._encoders.items()}

    def encode_image(self, data: bytes) -> Vector:
        """float32 [D]. Raises InvalidRequest when it is no picture, or this release encodes none."""
        return self._encode("image", data)

    def encode_text(self, text: str) -> Vector:
        """float32 [D]. Raises InvalidRequest when this release encodes no text."""
        return self._encode("text", text)

    def encode_audio(self, data: bytes) -> Vector:
        """float32 [D]. Raises InvalidRequest when it is no sound, or this release encodes none, and EnvironmentProblem
        where soundfile is not installed beside the service."""
        return self._encode("audio", data)

    def _encode(self, modality: str, content: bytes | str) -> Vector:
        encoder = self._encoders.get(modality)
        if encoder is None:
            raise InvalidRequest(f"this release has no {modality} encoder", field=f"/{modality}")
        try:
            vector: Vector = encoder.encode([content])[0]
        except InputError as error:
            raise InvalidRequest(str(error), field=f"/{modality}") from None
        return vector
