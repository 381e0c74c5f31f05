"""A release's encoders as the service uses them: one picture, text or sound at a time, without torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.onnx_encoder import TOKENIZER_FILE, OnnxEncoder, space_in
from recsys.errors import CorruptArtifact, InputError, InvalidRequest, MissingArtifact
from recsys.manifest import EmbeddingSpace

Vector = NDArray[np.float32]
MODALITIES = ("image", "text", "audio")


def files_of(modality: str, names: Collection[str]) -> dict[str, str]:
    """What one modality's encoder needs of a release's encoder files, by role; {} where it has none of them.

    Raises:
        CorruptArtifact: there is a description without its graph.
    """
    roles = {"description": f"{modality}_encoder.json", "model": f"{modality}_encoder.onnx"}
    if roles["description"] not in names:
        return {}
    if roles["model"] not in names:
        raise CorruptArtifact(f"{roles['model']} is missing: run `recsys release build` again")
    if modality == "text" and TOKENIZER_FILE in names:
        roles["tokenizer"] = TOKENIZER_FILE
    return roles


def open_encoder(files: Mapping[str, Path], *, threads: int = 1) -> OnnxEncoder:
    """One encoder from the files of the roles of `files_of`. Raises MissingArtifact, CorruptArtifact."""
    return OnnxEncoder.open(_description(files["description"]), files["model"], files.get("tokenizer"), threads=threads)


def described_spaces(files: Mapping[str, Path]) -> dict[str, EmbeddingSpace]:
    """modality → embedding space of the encoders in these files, whose graphs are not read.

    Raises:
        MissingArtifact, CorruptArtifact: a description is not there, or is not what it should be.
    """
    described = {modality: files_of(modality, files) for modality in MODALITIES}
    return {
        modality: space_in(_description(files[roles["description"]])) for modality, roles in described.items() if roles
    }


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
            if roles := files_of(modality, files):
                by_role = {role: files[name] for role, name in roles.items()}
                encoders[modality] = open_encoder(by_role, threads=threads)
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


def _description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise MissingArtifact(f"{path.name} is not there: `recsys release build` writes it") from None
    except ValueError as error:
        raise CorruptArtifact(
            f"an encoder's description is not JSON ({error}): run `recsys release build` again"
        ) from None
    if not isinstance(description, dict):
        raise CorruptArtifact("an encoder's description is no object: run `recsys release build` again")
    return description
