"""A data folder to fill and validate."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.catalog import DataConfig
from recsys.ingest.summary import FileSummary
from recsys.ingest.validate import Validated, validate_inputs

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
GOOD = {"user_id": "u", "item_id": "a", "occurred_at": "2026-01-01T00:00:00Z"}


class Folder:
    """Files by name; items "a", "b", "c" unless told otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jsonl("items", [{"item_id": each} for each in "abc"])

    def jsonl(self, stem: str, rows: list[dict[str, Any]]) -> Folder:
        return self.write(f"{stem}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def csv(self, stem: str, *lines: str) -> Folder:
        return self.write(f"{stem}.csv", "\n".join(lines) + "\n")

    def parquet(self, stem: str, columns: dict[str, Any]) -> Folder:
        target = self.path / f"{stem}.parquet"
        target.parent.mkdir(exist_ok=True)
        self._drop(stem)
        pq.write_table(pa.table(columns), target)
        return self

    def write(self, name: str, content: str | bytes) -> Folder:
        self._drop(name.split(".")[0])
        (self.path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return self

    def _drop(self, stem: str) -> None:
        for old in self.path.glob(f"{stem}.*"):
            old.unlink()

    def validate(self, **config: Any) -> Validated:
        return validate_inputs(self.path, DataConfig(**config), now=NOW)


def reasons(validated: Validated) -> list[tuple[int, str, str]]:
    """(line, field, reason) of every quarantined row."""
    return [(row["line"], row["field"], row["reason"]) for row in validated.quarantine.to_pylist()]


def of_kind(validated: Validated, kind: str) -> FileSummary:
    return next(file for file in validated.summary.files if file.kind == kind)
