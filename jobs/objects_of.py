"""The objects that a detector saw, for a release.

artifacts/detected/<key>/       objects.parquet (`OBJECTS_SCHEMA`), vectors.npy float32 [O, D] of length 1, and
                                space.json, the embedding space of the crops
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.item_objects import OBJECTS_SCHEMA
from recsys.manifest import EmbeddingSpace
from recsys.storage.artifact_files import read_artifact
from recsys.workspace import Workspace

OBJECTS_KIND = "detected"
OBJECTS, VECTORS, SPACE = "objects.parquet", "vectors.npy", "space.json"
AGAIN = "run `recsys tag --head detection` again"


def write_objects(workspace: Workspace, items: pa.Table, staging: Path) -> EmbeddingSpace | None:
    """The objects of these items, in their order, into a release; their embedding space, or None where nobody looked
    for objects.

    Raises:
        CorruptArtifact: the artifact holds none.
    """
    try:
        folder, _ = read_artifact(workspace.root, OBJECTS_KIND)
    except MissingArtifact:
        return None
    try:
        table = pq.read_table(folder / OBJECTS).select(OBJECTS_SCHEMA.names).cast(OBJECTS_SCHEMA)
        vectors = np.load(folder / VECTORS, allow_pickle=False)
        space = EmbeddingSpace.model_validate_json((folder / SPACE).read_bytes())
    except (pa.ArrowException, OSError, KeyError, ValueError, ValidationError) as error:
        raise CorruptArtifact(f"the objects in {folder} cannot be read ({error}): {AGAIN}") from None
    if vectors.shape != (len(table), space.dim):
        raise CorruptArtifact(f"the objects in {folder} have no vector each: {AGAIN}")
    rows = np.asarray(pc.fill_null(pc.index_in(table["item_id"], value_set=items["item_id"]), -1), dtype=np.int64)
    order = np.lexsort((np.asarray(table["object"]), rows))
    order = order[rows[order] >= 0]
    pq.write_table(
        table.take(pa.array(order)).replace_schema_metadata(None), staging / "objects.parquet", compression="zstd"
    )
    np.save(staging / "objects.npy", np.ascontiguousarray(vectors[order], dtype=np.float32), allow_pickle=False)
    return space
