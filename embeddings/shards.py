"""Vectors, or records, on disk: Parquet shards of one embedding space, each with its commit marker.

A store is a folder: `manifest.json` names the space, `shard-000000.parquet` holds rows, `shard-000000.json` is its
commit marker, and so on. A shard counts from the moment when its marker and those of all shards before it are there;
every write is a temporary file, fsync and rename, so that a process killed anywhere leaves the last committed state.
Nothing in it holds a time or a path: the same vectors give the same bytes.

    columns of a shard   item_id        string, the first item that had this content
                         content_hash   string, hex sha256 of the content
                         features_hash  string, hex of what the encoder saw; equal where pixels are; null for texts
                         vector         fixed-size list of D float16, L2-normalised if the space says so
                         record         in its place where the space holds records: a JSON object, UTF-8
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from recsys.config import Config
from recsys.errors import CorruptArtifact, EnvironmentProblem, MissingArtifact, SpaceMismatch
from recsys.manifest import EmbeddingSpace, canonical_json, sha256_bytes

MANIFEST = "manifest.json"
FORMAT = 2
C = TypeVar("C", bound=Config)


class StoreManifest(Config):
    """What all vectors of a store are."""

    format: int
    space: EmbeddingSpace


class ShardMarker(Config):
    """A committed shard.

    Attributes:
        plan: fingerprint of the contents that it was made from, in their order.
        sha256: of the Parquet file.
        compute: what did the arithmetic, as `onnxruntime-fp32`; another rounds differently.
        refused: content hash → (reason, message) of contents of the plan that have no vector.
        unread: the same of contents that could not be had when the shard was made; the next run tries them again.
    """

    plan: str
    sha256: str
    n_rows: int
    compute: str = ""
    refused: dict[str, tuple[str, str]] = Field(default_factory=dict)
    unread: dict[str, tuple[str, str]] = Field(default_factory=dict)


@dataclass(frozen=True)
class ShardRows:
    """`R` rows of one shard: item ids, content hashes, features hashes (or None each) and vectors float16 [R, D].

    In a space of records `vectors` is object [R] of bytes.
    """

    item_ids: Sequence[str]
    content_hashes: Sequence[str]
    vectors: NDArray[Any]
    features_hashes: Sequence[str | None] | None = None


@dataclass(frozen=True)
class NewShard:
    """A shard before it is written."""

    rows: ShardRows
    plan: str
    compute: str = ""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unread: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardStore:
    """A folder of shards. A value: `append` gives the store with one shard more."""

    directory: Path
    space: EmbeddingSpace
    shards: tuple[ShardMarker, ...] = ()

    @classmethod
    def open(cls, directory: Path, space: EmbeddingSpace) -> ShardStore:
        """The store in `directory`, empty when there is none.

        Raises:
            SpaceMismatch: it holds vectors of another space.
            CorruptArtifact: its manifest or a marker cannot be read.
        """
        path = directory / MANIFEST
        if not path.exists():
            return cls(directory, space)
        _parsed(StoreManifest, path).space.require(space)
        shards: list[ShardMarker] = []
        while (marker := marker_path(directory, len(shards))).exists():
            shards.append(_parsed(ShardMarker, marker))
        return cls(directory, space, tuple(shards))

    def append(self, shard: NewShard) -> ShardStore:
        """Write the next shard, then commit it. Raises EnvironmentProblem when the disk is full or refuses."""
        marker = write_shard(self.directory, len(self.shards), self.space, shard)
        return replace(self, shards=(*self.shards, marker))

    def hashes(self, shard: int) -> tuple[list[str], list[str | None]]:
        """Content and features hashes of one shard, in row order; raises as `read` does."""
        table = self._table(shard, ["content_hash", "features_hash"])
        return table["content_hash"].to_pylist(), table["features_hash"].to_pylist()

    def read(self, shard: int) -> ShardRows:
        """One shard.

        Raises:
            MissingArtifact: its file is not there.
            CorruptArtifact: its bytes are not those that were committed.
            SpaceMismatch: the file itself names another space.
        """
        table = self._table(shard, None)
        if self.space.holds_records:
            vectors = records_array(table["record"].to_pylist())
        else:
            flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors = flat.astype(np.float16, copy=False).reshape(-1, self.space.dim)
        columns = (table[name].to_pylist() for name in ("item_id", "content_hash", "features_hash"))
        item_ids, content_hashes, features_hashes = columns
        return ShardRows(item_ids, content_hashes, vectors, features_hashes)

    def __iter__(self) -> Iterator[ShardRows]:
        return (self.read(shard) for shard in range(len(self.shards)))

    def _table(self, shard: int, columns: list[str] | None) -> pa.Table:
        path = shard_path(self.directory, shard)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise MissingArtifact(f"{path} is not there; delete {self.directory} and run `recsys embed`") from None
        if sha256_bytes(content) != self.shards[shard].sha256:
            raise CorruptArtifact(f"{path} is damaged; delete {self.directory} and run `recsys embed`")
        file = pq.ParquetFile(io.BytesIO(content))
        named = json.loads(file.schema_arrow.metadata[b"space"])
        if EmbeddingSpace.model_validate(named).space_id != self.space.space_id:
            raise SpaceMismatch(f"{path} belongs to another embedding space; delete {self.directory} and embed again")
        return file.read(columns=columns)


def write_shard(directory: Path, number: int, space: EmbeddingSpace, shard: NewShard) -> ShardMarker:
    """Write shard `number` and then its marker: what an engine's worker does.

    Two workers that write the same shard write the same bytes. Raises EnvironmentProblem.
    """
    write_manifest(directory, space)
    content = _parquet_bytes(shard.rows, space)
    forget_shard(directory, number, unless=sha256_bytes(content))
    writer = f"{os.getpid()}."
    write_atomically(shard_path(directory, number), content, writer=writer)
    marker = ShardMarker(
        plan=shard.plan,
        sha256=sha256_bytes(content),
        n_rows=len(shard.rows.item_ids),
        compute=shard.compute,
        refused=dict(sorted(shard.refused.items())),
        unread=dict(sorted(shard.unread.items())),
    )
    write_atomically(
        marker_path(directory, number), canonical_json(marker.model_dump(mode="json")).encode(), writer=writer
    )
    return marker


def write_manifest(directory: Path, space: EmbeddingSpace) -> None:
    """Make `directory` a store, where it is none. Raises EnvironmentProblem."""
    if not (directory / MANIFEST).exists():
        manifest = StoreManifest(format=FORMAT, space=space)
        write_atomically(directory / MANIFEST, canonical_json(manifest.model_dump(mode="json")).encode())


def forget_shard(directory: Path, number: int, *, unless: str = "") -> None:
    """Take the marker of shard `number` away, unless its file has this sha256.

    A marker must never stand beside a file that it does not describe, not even for a moment.

    Raises:
        EnvironmentProblem: the disk refuses.
    """
    path = marker_path(directory, number)
    try:
        if path.exists() and _parsed(ShardMarker, path).sha256 != unless:
            path.unlink()
    except OSError as error:
        raise EnvironmentProblem(f"cannot remove {path}: {error.strerror}") from error


def forget_shards_from(directory: Path, number: int) -> None:
    """Take shards away that a killed run of an engine committed out of order, and that no later run wants.

    Raises:
        EnvironmentProblem: the disk refuses.
    """
    for path in sorted(directory.glob("shard-*.json")):
        found = int(path.stem.removeprefix("shard-"))
        if found >= number:
            forget_shard(directory, found)
            shard_path(directory, found).unlink(missing_ok=True)


def remove_torn(directory: Path) -> None:
    """Remove what killed writers left half written. Call it while no other job writes here."""
    for path in directory.glob(".shard-*.tmp"):
        path.unlink(missing_ok=True)


def committed(directory: Path, number: int, plan: str) -> ShardMarker | None:
    """The marker of shard `number` when it was made from `plan`. Raises CorruptArtifact."""
    path = marker_path(directory, number)
    marker = _parsed(ShardMarker, path) if path.exists() else None
    return marker if marker is not None and marker.plan == plan else None


def shard_path(directory: Path, number: int) -> Path:
    return directory / f"shard-{number:06d}.parquet"


def marker_path(directory: Path, number: int) -> Path:
    return directory / f"shard-{number:06d}.json"


def store_folder(root: Path, space: EmbeddingSpace) -> Path:
    """Where the vectors of a space lie under `root`: another encoder gets another folder, and none is overwritten."""
    return root / space.modality / space.space_id


def write_atomically(path: Path, content: bytes, *, writer: str = "") -> None:
    """The whole file or none of it, whenever the process or the machine stops.

    Args:
        writer: ends with a point and tells writers apart that may write the same file at once.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{writer}tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        _forget(temporary)
        raise EnvironmentProblem(
            f"cannot write {path}: {error.strerror}; run the same command when it can: nothing that was there is lost"
        ) from error


def _forget(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # a disk that refuses everything; the next write of this file replaces it


def _parsed(kind: type[C], path: Path) -> C:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CorruptArtifact(f"{path} cannot be read; delete {path.parent} and embed again: {error}") from None


def records_array(records: Sequence[bytes]) -> NDArray[np.object_]:
    """object [R]: records where vectors would stand."""
    array = np.empty(len(records), dtype=np.object_)
    array[:] = records
    return array


def _parquet_bytes(rows: ShardRows, space: EmbeddingSpace) -> bytes:
    if space.holds_records:
        outputs = {"record": pa.array(rows.vectors.tolist(), type=pa.binary())}
    else:
        flat = pa.array(np.ascontiguousarray(rows.vectors, dtype=np.float16).ravel(), type=pa.float16())
        outputs = {"vector": pa.FixedSizeListArray.from_arrays(flat, space.dim)}
    features_hashes = rows.features_hashes or [None] * len(rows.item_ids)
    table = pa.table(
        {
            "item_id": pa.array(rows.item_ids, type=pa.string()),
            "content_hash": pa.array(rows.content_hashes, type=pa.string()),
            "features_hash": pa.array(features_hashes, type=pa.string()),
            **outputs,
        }
    ).replace_schema_metadata({"space": canonical_json(space.model_dump()), "space_id": space.space_id})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)
    return buffer.getvalue()
