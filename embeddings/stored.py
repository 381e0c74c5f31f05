"""Reading an embedding store back: which item has which content, and the vectors of a list of contents."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embeddings.shards import MANIFEST, ShardStore, write_atomically
from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.manifest import EmbeddingSpace

ITEMS = "items.parquet"


def gather(
    store_dir: Path,
    space: EmbeddingSpace,
    content_hashes: Sequence[str | None],
    dtype: type[np.floating[Any]] = np.float32,
) -> tuple[Any, NDArray[np.bool_]]:
    """The vectors of `N` contents, for `recsys.dataset.Modality`.

    Args:
        content_hashes: one for each row wanted; None, or a hash the store does not hold, is a missing row.
        dtype: of the vectors; float16 takes half the memory, and no more than one shard beside it.

    Returns:
        vectors `dtype` [N, D], zeros where missing, else L2-normalised again after float16 if the space is normalised;
        present bool [N].

    Raises:
        MissingArtifact: there is no store, or a shard is missing.
        SpaceMismatch: the store holds another space.
        CorruptArtifact: a file is damaged.
    """
    if not (store_dir / MANIFEST).exists():
        if all(content_hash is None for content_hash in content_hashes):
            return _empty(len(content_hashes), space.dim, dtype)
        raise MissingArtifact(f"{store_dir} holds no embeddings: run `recsys embed`")
    vectors, present = _empty(len(content_hashes), space.dim, dtype)
    wanted = _positions(content_hashes)
    for shard in ShardStore.open(store_dir, space):
        unit = shard.vectors.astype(np.float32)
        if space.normalised:
            norms = np.linalg.norm(unit, axis=1, keepdims=True)
            unit /= np.where(norms > 0, norms, 1.0)
        for row, content_hash in enumerate(shard.content_hashes):
            positions = wanted.get(content_hash)
            if positions:
                vectors[positions] = unit[row]
                present[positions] = True
    return vectors, present


def gather_records(
    store_dir: Path, space: EmbeddingSpace, content_hashes: Sequence[str | None]
) -> list[dict[str, Any] | None]:
    """The records of `N` contents, None where missing; arguments and errors as in `gather`."""
    records: list[dict[str, Any] | None] = [None] * len(content_hashes)
    wanted = _positions(content_hashes)
    if not wanted:
        return records
    if not (store_dir / MANIFEST).exists():
        raise MissingArtifact(f"{store_dir} holds no records: run `recsys tag`")
    for shard in ShardStore.open(store_dir, space):
        for row, content_hash in enumerate(shard.content_hashes):
            for position in wanted.get(content_hash, ()):
                records[position] = json.loads(shard.vectors[row])
    return records


def _positions(content_hashes: Sequence[str | None]) -> dict[str, list[int]]:
    wanted: dict[str, list[int]] = {}
    for position, content_hash in enumerate(content_hashes):
        if content_hash is not None:
            wanted.setdefault(content_hash, []).append(position)
    return wanted


def write_items(store_dir: Path, content_hashes: Mapping[str, str]) -> None:
    """Record item_id → content hash of the catalogue last embedded, in its order."""
    table = pa.table(
        {
            "item_id": pa.array(list(content_hashes), type=pa.string()),
            "content_hash": pa.array(list(content_hashes.values()), type=pa.string()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    write_atomically(store_dir / ITEMS, buffer.getvalue())


def read_items(store_dir: Path) -> dict[str, str]:
    """item_id → content hash of the catalogue last embedded.

    Raises:
        MissingArtifact: no embedding job has ended here.
        CorruptArtifact: the file cannot be read.
    """
    path = store_dir / ITEMS
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
    except FileNotFoundError:
        raise MissingArtifact(f"{path} is not there: run `recsys embed`") from None
    except pa.ArrowInvalid as error:
        raise CorruptArtifact(f"{path} is damaged; run `recsys embed` again: {error}") from None
    return dict(zip(table["item_id"].to_pylist(), table["content_hash"].to_pylist(), strict=True))


def _empty(n_rows: int, dim: int, dtype: type[np.floating[Any]]) -> tuple[Any, NDArray[np.bool_]]:
    return np.zeros((n_rows, dim), dtype=dtype), np.zeros(n_rows, dtype=np.bool_)
