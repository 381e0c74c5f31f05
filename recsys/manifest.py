"""What an artifact or a release is, from what it was made, and how to verify it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from recsys.config import Config
from recsys.errors import SpaceMismatch


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value always gives the same bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """First 16 hex digits of the sha256 of a value's canonical JSON: the key of a job's output."""
    return sha256_bytes(canonical_json(value).encode())[:16]


class EmbeddingSpace(Config):
    """What makes two vectors comparable. Vectors of two spaces are never compared.

    A model may also give records instead of vectors (boxes, a transcript): its space has width 0.

    Attributes:
        encoder: its spec, as `open_clip:ViT-B-32/laion2b_s34b_b79k`.
        modality: what it encodes.
        weights_sha256: of the weights that made the vectors.
        preprocessing: canonical JSON of the preprocessing's configuration.
        dim: width D of a vector; 0 = it gives records, JSON objects as UTF-8.
        normalised: vectors have L2 norm 1.
        similarity: how two vectors are compared; the larger the closer. Records are not compared.
    """

    encoder: str
    modality: str
    weights_sha256: str
    preprocessing: str
    dim: int
    normalised: bool = True
    similarity: Literal["cosine", "inner_product", "none"] = "cosine"

    @property
    def space_id(self) -> str:
        return fingerprint(self.model_dump())

    @property
    def holds_records(self) -> bool:
        return self.dim == 0

    def require(self, other: EmbeddingSpace) -> None:
        """Raises SpaceMismatch, naming the fields that differ."""
        mine, theirs = self.model_dump(), other.model_dump()
        different = [f"{key}: {mine[key]!r} is not {theirs[key]!r}" for key in mine if mine[key] != theirs[key]]
        if different:
            raise SpaceMismatch("these vectors live in two embedding spaces; embed again. " + "; ".join(different))


class FileEntry(Config):
    """One file of an artifact or a release."""

    sha256: str
    size_bytes: int

    @staticmethod
    def of(path: Path) -> FileEntry:
        return FileEntry(sha256=sha256_file(path), size_bytes=path.stat().st_size)


class ArtifactManifest(Config):
    """What a job left in a folder: complete exactly when this manifest is there.

    Attributes:
        kind: the job's word for it: dataset, embeddings, model.
        key: fingerprint of everything it was made from (`made_from`).
        made_from: inputs and configuration, as canonical JSON values.
        files: every file beside the manifest, by relative path.
        summary: figures for people; no times, or the same inputs would not give the same bytes.
    """

    kind: str
    key: str
    made_from: dict[str, Any]
    files: dict[str, FileEntry]
    summary: dict[str, Any] = Field(default_factory=dict)


class ReleaseManifest(Config):
    """One release: everything that was checked together, and is switched together.

    Attributes:
        release_id: sha256 over the sorted lines `name sha256`, so the same inputs give the same release.
        files: name in the release → checksum; the bytes lie content-addressed under `artifacts/objects/`.
        spaces: modality → embedding space of the content vectors.
        n_items: items in the vocabulary.
        dim: width of the item and query vectors.
        acceptance: the figures of its gate (they are also one of the files, so they are part of the id).
    """

    release_id: str
    files: dict[str, FileEntry]
    spaces: dict[str, EmbeddingSpace]
    n_items: int
    dim: int
    acceptance: dict[str, Any]


def release_id_of(files: dict[str, FileEntry]) -> str:
    """sha256 over the sorted `name sha256` lines: no times, no paths, no machine."""
    lines = "".join(f"{name} {entry.sha256}\n" for name, entry in sorted(files.items()))
    return sha256_bytes(lines.encode())
