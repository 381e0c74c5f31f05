"""The forward pass through ONNX Runtime: the service's encoder, and the jobs' on a CPU in float32. No torch here.

Files of one encoder in a folder: `image_encoder.onnx` and `image_encoder.json`, or `text_encoder.onnx`,
`text_encoder.json` and `tokenizer.json`; the JSON names the embedding space and with it the preprocessing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from pydantic import ValidationError

from embeddings.encoder import BaseEncoder, Encoder, OnnxForm, Vectors
from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features
from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.manifest import EmbeddingSpace, canonical_json

TOKENIZER_FILE = "tokenizer.json"
FORMAT = 1


class OnnxEncoder(BaseEncoder):
    """An exported encoder. Its session may be called from many threads."""

    def __init__(self, form: OnnxForm, *, threads: int = 1) -> None:
        """`threads`: cores of one forward pass.

        Raises:
            CorruptArtifact: ONNX Runtime cannot read the graph, or the tokenizer is another one.
        """
        preprocessor = build_preprocessor(form.space.preprocessing, form.tokenizer_json)
        super().__init__(form.space, preprocessor, compute="onnxruntime-fp32")
        self._form = form
        self._session = open_session(form.model, threads)
        self._inputs = [node.name for node in self._session.get_inputs()]

    @classmethod
    def open(
        cls, description: dict[str, Any], model_path: Path, tokenizer_path: Path | None = None, *, threads: int = 1
    ) -> OnnxEncoder:
        """From files that may lie anywhere under any name (a release stores them by content).

        `description` is the parsed content of `image_encoder.json` or `text_encoder.json`.

        Raises:
            MissingArtifact: a file is not there.
            CorruptArtifact: a file is not what it should be.
        """
        if not model_path.exists():
            raise _missing(model_path)
        try:
            tokenizer_json = _read(tokenizer_path).decode("utf-8") if tokenizer_path else None
        except UnicodeDecodeError as error:
            raise CorruptArtifact(f"the tokenizer is not text: {error}") from None
        # The path, not the bytes: the weights then lie in memory once.
        return cls(OnnxForm(model_path, space_in(description), tokenizer_json), threads=threads)

    @classmethod
    def load(cls, directory: Path, modality: str, *, threads: int = 1) -> OnnxEncoder:
        """From the folder that `export` wrote; raises as `open` does."""
        try:
            description = json.loads(_read(directory / f"{modality}_encoder.json"))
        except ValueError as error:
            raise CorruptArtifact(f"{modality}_encoder.json is not JSON: {error}") from None
        tokenizer = directory / TOKENIZER_FILE if modality == "text" else None
        tokenizer = tokenizer if tokenizer is not None and tokenizer.exists() else None
        return cls.open(description, directory / f"{modality}_encoder.onnx", tokenizer, threads=threads)

    def forward(self, features: Sequence[Features]) -> Vectors:
        batch = self.preprocessor.collate(features)
        outputs: list[Any] = self._session.run(None, {name: batch[name] for name in self._inputs})
        vectors: Vectors = np.asarray(outputs[0], dtype=np.float32)
        return vectors

    def onnx_form(self) -> OnnxForm:
        return self._form


def export(encoder: Encoder, directory: Path) -> dict[str, Path]:
    """Write an encoder as files: name → path. The same weights give the same bytes.

    At most one encoder of a modality, and so one tokenizer, to a folder.
    """
    form = encoder.onnx_form()
    modality = form.space.modality
    contents = {
        f"{modality}_encoder.onnx": form.model if isinstance(form.model, bytes) else _read(form.model),
        f"{modality}_encoder.json": canonical_json(description_of(form.space)).encode(),
    }
    if form.tokenizer_json is not None:
        contents[TOKENIZER_FILE] = form.tokenizer_json.encode("utf-8")
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return {name: directory / name for name in contents}


def description_of(space: EmbeddingSpace) -> dict[str, Any]:
    """The content of `image_encoder.json` or `text_encoder.json`."""
    return {"format": FORMAT, "space": space.model_dump(), "space_id": space.space_id}


def open_session(model: bytes | Path, threads: int) -> ort.InferenceSession:
    """A graph ready to run on the CPU, each forward pass on `threads` cores. Raises CorruptArtifact."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Idle threads must not spin: the service shares its cores with its request handlers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        source = model if isinstance(model, bytes) else str(model)
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CorruptArtifact(f"ONNX Runtime cannot read the model; export it again: {error}") from error


def space_in(description: dict[str, Any]) -> EmbeddingSpace:
    """The embedding space that `description_of` wrote down. Raises CorruptArtifact."""
    if description.get("format") != FORMAT:
        raise CorruptArtifact(f"the encoder's description is of format {description.get('format')}, not {FORMAT}")
    try:
        return EmbeddingSpace.model_validate(description["space"])
    except (KeyError, ValidationError) as error:
        raise CorruptArtifact(f"the encoder's description names no embedding space: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None


def _missing(path: Path) -> MissingArtifact:
    return MissingArtifact(f"{path.name} is not there: `recsys release build` writes it")
