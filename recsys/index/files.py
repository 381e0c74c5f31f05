"""An index on disk: FAISS's bytes (none for exact search), then one line of JSON that says what it is.

FAISS's bytes come first, so that FAISS can map them: workers of one machine then share them. It does so for all codes
but 4-bit fast-scan ones, which it packs into memory of each process; those take a quarter of a byte a dimension, a
sixteenth of the vectors, which are mapped always.

The item vectors are a file of their own; the index knows a fingerprint of them and refuses others. FAISS may answer
wrongly or abort on corrupt bytes, so they are compared with their checksum before it sees them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex

FORMAT = "recsys-index-2"
FINGERPRINT_ROWS = 1024
MAX_LINE_BYTES = 64 * 1024
READ_BYTES = 256 * 1024


def write_index(index: ExactIndex | ApproximateIndex, path: Path) -> None:
    """Write `index` to `path` in one step; the same index gives the same bytes."""
    says: dict[str, Any] = {"format": FORMAT, "vectors": _fingerprint(index.vectors), "kind": "exact", "codes_bytes": 0}
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(b"")
    if isinstance(index, ApproximateIndex):
        engine: Any = faiss
        engine.write_index(index.codes, str(unfinished))
        says |= {"kind": "approximate", "refine_factor": index.refine_factor, "n_probes": index.n_probes}
        says |= {"codes_bytes": unfinished.stat().st_size}
    says |= {"sha256": _sha256(unfinished, says["codes_bytes"])}
    with unfinished.open("ab") as stream:
        stream.write(b"\n" + json.dumps(says, sort_keys=True).encode() + b"\n")
    os.replace(unfinished, path)


def open_index(path: Path, item_vectors: NDArray[np.float32], *, n_threads: int = 1) -> ExactIndex | ApproximateIndex:
    """The index that `write_index` wrote, over the item vectors float32 [N, D] it was built from.

    `item_vectors` may be mapped from a file: they are not read here. The file must not change while it is open.

    Raises:
        MissingArtifact: no such file.
        CorruptArtifact: not an index of ours, changed bytes, or built from other vectors.
    """
    says = _last_line(path)
    if says["vectors"] != _fingerprint(item_vectors):
        raise CorruptArtifact(f"{path} was built from other item vectors: run `recsys release build` again")
    if _sha256(path, says["codes_bytes"]) != says["sha256"]:
        raise CorruptArtifact(f"{path} has changed since it was written: run `recsys release build` again")
    if says["kind"] == "exact":
        return ExactIndex(item_vectors, are_checked=True)
    engine: Any = faiss
    return ApproximateIndex(
        item_vectors,
        engine.read_index(str(path), engine.IO_FLAG_MMAP_IFC),
        refine_factor=says["refine_factor"],
        n_probes=says["n_probes"],
        n_threads=n_threads,
        are_checked=True,
    )


def write_vectors(path: Path, shards: Iterable[NDArray[np.float32]], *, n_items: int, dim: int) -> NDArray[np.float32]:
    """Item vectors as they come, shard after shard, to one `.npy` file; float32 [N, D] mapped from it, for
    `build_index`. Memory holds one shard.

    Raises:
        ValueError: the shards hold more or fewer than `n_items` vectors, or vectors of another width.
    """
    unfinished = path.with_name(path.name + ".part")
    vectors = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float32, shape=(n_items, dim))
    start = 0
    for shard in shards:
        if shard.ndim != 2 or shard.shape[1] != dim or start + len(shard) > n_items:
            raise ValueError(f"shards must hold {n_items} x {dim} in all; after {start} came {shard.shape}")
        vectors[start : start + len(shard)] = shard
        start += len(shard)
    if start != n_items:
        raise ValueError(f"the shards hold {start} vectors, not {n_items}")
    vectors.flush()
    del vectors
    os.replace(unfinished, path)
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _last_line(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - MAX_LINE_BYTES))
            line = stream.read().rstrip(b"\n").rpartition(b"\n")[2]
    except FileNotFoundError:
        raise MissingArtifact(f"{path} is not there: `recsys release build` makes it") from None
    try:
        says: dict[str, Any] = json.loads(line)
        known = says["format"] == FORMAT and says["kind"] in ("exact", "approximate")
        if known and {"vectors", "sha256"} <= says.keys() and 0 <= says["codes_bytes"] <= size:
            return says
    except (ValueError, TypeError, KeyError):
        pass
    raise CorruptArtifact(f"{path} is not an index of format {FORMAT}: run `recsys release build` again")


def _sha256(path: Path, n_bytes: int) -> str:
    """Of the first `n_bytes`, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while n_bytes > 0 and (piece := stream.read(min(READ_BYTES, n_bytes))):
            digest.update(piece)
            n_bytes -= len(piece)
    return digest.hexdigest()


def _fingerprint(vectors: NDArray[np.float32]) -> str:
    """sha256 over the shape and rows evenly spread over the file: tells one set of vectors from another in a
    millisecond. That no byte of them changed is the release manifest's to check."""
    places = np.linspace(0, max(len(vectors) - 1, 0), min(len(vectors), FINGERPRINT_ROWS)).astype(np.int64)
    digest = hashlib.sha256(repr(tuple(vectors.shape)).encode())
    digest.update(np.ascontiguousarray(vectors[places], dtype="<f4").tobytes())
    return digest.hexdigest()
