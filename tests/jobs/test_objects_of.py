"""Objects from a detector's artifact into a release, and the service's answers from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.objects_of import OBJECTS_KIND
from jobs.release import build_job
from recsys.errors import CorruptArtifact
from recsys.item_objects import OBJECTS_SCHEMA
from recsys.manifest import EmbeddingSpace
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace
from tests.worlds.checkerboard import item_id
from tests.worlds.in_memory import space
from tests.worlds.workspaces import NOW, Asker, copied

SPACE: EmbeddingSpace = space("image", 2)


def put_objects(workspace: Workspace, vectors: Any) -> None:
    ids = [item_id(3), item_id(1), "gone", item_id(1)]
    box = {name: [0.0] * 4 for name in ("x0", "y0", "x1", "y1")}
    columns = {"item_id": ids, "object": [0, 1, 0, 0], "tag": ["dog"] * 4, "confidence": [0.9] * 4, **box}

    def fill(folder: Path) -> dict[str, Any]:
        pq.write_table(pa.table(columns, schema=OBJECTS_SCHEMA), folder / "objects.parquet")
        np.save(folder / "vectors.npy", vectors)
        (folder / "space.json").write_text(SPACE.model_dump_json())
        return {}

    write_artifact(workspace.root, OBJECTS_KIND, "only", {}, fill)


def test_objects_are_released_in_the_order_of_the_items(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "work")
    put_objects(workspace, np.array([[1, 0], [0, 1], [0, 0], [0.6, 0.8]], np.float32))
    _, exit_code = build_job(workspace, now=NOW, publish=True)
    assert exit_code == 0
    release = Asker.of(workspace).catalog.release
    assert release.schema.objects_space == SPACE
    assert release.objects is not None
    assert release.objects.rows.tolist() == [1, 1, 3]
    assert release.objects.vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 1], [1, 0]]
    assert [each["object"] for each in release.objects.told(1)] == [0, 1]


def test_objects_without_a_vector_each_are_refused(released: Workspace, tmp_path: Path) -> None:
    workspace = copied(released, tmp_path / "work")
    put_objects(workspace, np.zeros((3, 2), np.float32))
    with pytest.raises(CorruptArtifact, match="have no vector each"):
        build_job(workspace, now=NOW, publish=False)
