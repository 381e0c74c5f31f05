"""An index on disk: one line of JSON that says what it is, then FAISS's bytes (none for exact search).

The item vectors are a file of their own; the index knows a fingerprint of them and refuses others.
FAISS may answer wrongly or abort on corrupt bytes, so they are compared with their checksum before it sees them.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex

FORMAT = "recsys-index-1"
FINGERPRINT_ROWS = 1024


def write_index(index: ExactIndex | ApproximateIndex, path: Path) -> None:
    """Write `index` to `path` in one step; the same index gives the same bytes."""
    header: dict[str, Any] = {"format": FORMAT, "vectors": _fingerprint(index.vectors), "kind": "exact"}
    codes = b""
    if isinstance(index, ApproximateIndex):
        codes = faiss.serialize_index(index.codes).tobytes()
        header |= {"kind": "approximate", "refine_factor": index.refine_factor, "n_probes": index.n_probes}
        header |= {"sha256": hashlib.sha256(codes).hexdigest()}
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(json.dumps(header, sort_keys=True).encode() + b"\n" + codes)
    os.replace(unfinished, path)


def open_index(path: Path, item_vectors: NDArray[np.float32], *, n_threads: int = 1) -> ExactIndex | ApproximateIndex:
    """The index that `write_index` wrote, over the item vectors float32 [N, D] it was built from.

    Raises:
        MissingArtifact: no such file.
        CorruptArtifact: not an index of ours, changed bytes, or built from other vectors.
    """
    try:
        line, _, codes = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        raise MissingArtifact(f"{path} is not there: `recsys release build` makes it") from None
    header = _header(line, path)
    if header["vectors"] != _fingerprint(item_vectors):
        raise CorruptArtifact(f"{path} was built from other item vectors: run `recsys release build` again")
    if header["kind"] == "exact":
        return ExactIndex(item_vectors)
    if hashlib.sha256(codes).hexdigest() != header["sha256"]:
        raise CorruptArtifact(f"{path} has changed since it was written: run `recsys release build` again")
    return ApproximateIndex(
        item_vectors,
        faiss.deserialize_index(np.frombuffer(codes, dtype=np.uint8)),
        refine_factor=header["refine_factor"],
        n_probes=header["n_probes"],
        n_threads=n_threads,
    )


def _header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(line)
        if header["format"] == FORMAT and header["kind"] in ("exact", "approximate") and "vectors" in header:
            return header
    except (ValueError, TypeError, KeyError):
        pass
    raise CorruptArtifact(f"{path} is not an index of format {FORMAT}: run `recsys release build` again")


def _fingerprint(vectors: NDArray[np.float32]) -> str:
    """sha256 over the shape and rows evenly spread over the file: tells one set of vectors from another in a
    millisecond. That no byte of them changed is the release manifest's to check."""
    places = np.linspace(0, max(len(vectors) - 1, 0), min(len(vectors), FINGERPRINT_ROWS)).astype(np.int64)
    digest = hashlib.sha256(repr(tuple(vectors.shape)).encode())
    digest.update(np.ascontiguousarray(vectors[places], dtype="<f4").tobytes())
    return digest.hexdigest()
