"""Runs of tagging heads as `recsys tag` leaves them, with verdicts of one's own making."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.manifest import fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.tags import JUDGED_SCHEMA, TAGS_SCHEMA
from recsys.workspace import Workspace


def write_run(
    workspace: Workspace, head: str, rows: Iterable[dict[str, Any]], judged: Mapping[str, str], covers: Iterable[str]
) -> Path:
    """`rows` as of `TAGS_SCHEMA`, `judged` item_id → status."""
    tags = pa.Table.from_pylist(list(rows), schema=TAGS_SCHEMA)
    statuses = [{"item_id": item_id, "status": status} for item_id, status in judged.items()]
    made_from = {"covers": list(covers), "rows": [str(each) for each in tags.to_pylist()], "judged": statuses}

    def fill(folder: Path) -> dict[str, Any]:
        pq.write_table(tags, folder / "tags.parquet")
        pq.write_table(pa.Table.from_pylist(statuses, schema=JUDGED_SCHEMA), folder / "judged.parquet")
        return {"items": len(statuses), "rows": len(tags)}

    return write_artifact(workspace.root, f"tags-{head}", fingerprint(made_from), made_from, fill)
