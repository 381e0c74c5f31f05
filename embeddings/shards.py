"""Vectors on disk: Parquet shards of one embedding space, and the manifest that commits them.

A store is a folder: `shard-000000.parquet`, `shard-000001.parquet`, ..., and `manifest.json`. A shard counts from the
moment when the manifest names it; every write is a temporary file, fsync and rename, so that a process killed
anywhere leaves the last committed state. Nothing in it holds a time or a path: the same vectors give the same bytes.

    columns of a shard   item_id       string, the first item that had this content
                         content_hash  string, hex sha256 of the content
                         vector        fixed-size list of D float16, L2-normalised
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.config import Config
from recsys.errors import CorruptArtifact, EnvironmentProblem, MissingArtifact, SpaceMismatch
from recsys.manifest import EmbeddingSpace, canonical_json, sha256_bytes

MANIFEST = "manifest.json"
FORMAT = 1


class ShardEntry(Config):
    """A committed shard.

    Attributes:
        unusable: hashes of contents that came with it and whose vector was not finite; they are not encoded again.
    """

    file: str
    sha256: str
    n_rows: int
    unusable: tuple[str, ...] = ()


class StoreManifest(Config):
    """What a store holds: the space of all its vectors, and its shards in the order of their writing."""

    format: int = FORMAT
    space: EmbeddingSpace
    shards: tuple[ShardEntry, ...] = ()


@dataclass(frozen=True)
class ShardRows:
    """`R` rows of one shard: item ids, content hashes and vectors float16 [R, D]."""

    item_ids: Sequence[str]
    content_hashes: Sequence[str]
    vectors: NDArray[np.float16]


@dataclass(frozen=True)
class ShardStore:
    """A folder of shards. A value: `append` gives the store with one shard more."""

    directory: Path
    manifest: StoreManifest

    @classmethod
    def open(cls, directory: Path, space: EmbeddingSpace) -> ShardStore:
        """The store in `directory`, empty when there is none.

        Raises:
            SpaceMismatch: it holds vectors of another space.
            CorruptArtifact: its manifest cannot be read.
        """
        path = directory / MANIFEST
        if not path.exists():
            return cls(directory, StoreManifest(space=space))
        try:
            manifest = StoreManifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise CorruptArtifact(f"{path} cannot be read; delete {directory} and embed again: {error}") from None
        manifest.space.require(space)
        return cls(directory, manifest)

    def append(self, rows: ShardRows, *, unusable: Sequence[str] = ()) -> ShardStore:
        """Write the next shard, then commit it through the manifest."""
        name = f"shard-{len(self.manifest.shards):06d}.parquet"
        content = _parquet_bytes(rows, self.manifest.space)
        write_atomically(self.directory / name, content)
        entry = ShardEntry(
            file=name, sha256=sha256_bytes(content), n_rows=len(rows.item_ids), unusable=tuple(sorted(unusable))
        )
        manifest = self.manifest.model_copy(update={"shards": (*self.manifest.shards, entry)})
        write_atomically(self.directory / MANIFEST, canonical_json(manifest.model_dump(mode="json")).encode())
        return replace(self, manifest=manifest)

    def hashes(self, entry: ShardEntry) -> list[str]:
        """The content hashes of one shard, in row order; raises as `read` does."""
        hashes: list[str] = self._table(entry, ["content_hash"])["content_hash"].to_pylist()
        return hashes

    def read(self, entry: ShardEntry) -> ShardRows:
        """One shard.

        Raises:
            MissingArtifact: its file is not there.
            CorruptArtifact: its bytes are not those that were committed.
            SpaceMismatch: the file itself names another space.
        """
        table = self._table(entry, None)
        width = self.manifest.space.dim
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors = flat.astype(np.float16, copy=False).reshape(-1, width)
        return ShardRows(table["item_id"].to_pylist(), table["content_hash"].to_pylist(), vectors)

    def __iter__(self) -> Iterator[ShardRows]:
        return (self.read(entry) for entry in self.manifest.shards)

    def _table(self, entry: ShardEntry, columns: list[str] | None) -> pa.Table:
        path = self.directory / entry.file
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise MissingArtifact(f"{path} is not there; delete {self.directory} and run `recsys embed`") from None
        if sha256_bytes(content) != entry.sha256:
            raise CorruptArtifact(f"{path} is damaged; delete {self.directory} and run `recsys embed`")
        file = pq.ParquetFile(io.BytesIO(content))
        named = json.loads(file.schema_arrow.metadata[b"space"])
        if EmbeddingSpace.model_validate(named).space_id != self.manifest.space.space_id:
            raise SpaceMismatch(f"{path} belongs to another embedding space; delete {self.directory} and embed again")
        return file.read(columns=columns)


def store_folder(root: Path, space: EmbeddingSpace) -> Path:
    """Where the vectors of a space lie under `root`: another encoder gets another folder, and none is overwritten."""
    return root / space.modality / space.space_id


def write_atomically(path: Path, content: bytes) -> None:
    """The whole file or none of it, whenever the process or the machine stops.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}; nothing that was there is lost") from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parquet_bytes(rows: ShardRows, space: EmbeddingSpace) -> bytes:
    flat = pa.array(np.ascontiguousarray(rows.vectors, dtype=np.float16).ravel(), type=pa.float16())
    table = pa.table(
        {
            "item_id": pa.array(rows.item_ids, type=pa.string()),
            "content_hash": pa.array(rows.content_hashes, type=pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, space.dim),
        }
    ).replace_schema_metadata({"space": canonical_json(space.model_dump()), "space_id": space.space_id})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)
    return buffer.getvalue()
