"""`recsys validate`: each row accepted, or quarantined with file, line, field and reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from embeddings.registry import text_preprocessor
from jobs.artifacts import Dataset, load_dataset
from jobs.progress import console, progress_bar
from recsys.errors import RecsysError
from recsys.ingest.files import find_inputs
from recsys.ingest.validate import validate_inputs
from recsys.interactions import read_table, write_table
from recsys.manifest import fingerprint, sha256_file
from recsys.quarantine import QUARANTINE_SCHEMA
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace

MAX_LOOKED_AT = 100_000


def validate_job(workspace: Workspace, *, now: datetime) -> tuple[dict[str, Any], int]:
    """Validate data/; exit code 1 when rows were quarantined."""
    dataset = validate_data(workspace, now=now)
    return {"dataset": dataset.key, **dataset.summary}, 1 if dataset.summary["n_quarantined"] else 0


def validate_data(workspace: Workspace, *, now: datetime) -> Dataset:
    """The dataset of the files as they are; made anew only when they, their settings or the day changed.

    The day counts because a row may lie in the future today and not tomorrow.
    """
    inputs = find_inputs(workspace.data_dir, workspace.config.data)
    files = [inputs.items, *inputs.interactions, *([inputs.users] if inputs.users else [])]
    made_from = {
        "files": {file.name: sha256_file(file.path) for file in files},
        "config": workspace.config.data.model_dump(mode="json"),
        "text_encoder": workspace.config.encoders.text,
        "day": now.date().isoformat(),
    }

    def fill(folder: Path) -> dict[str, Any]:
        with progress_bar("validate", "rows") as bar:
            validated = validate_inputs(
                workspace.data_dir,
                workspace.config.data,
                now=now,
                on_progress=lambda read: bar(round(read.n_rows), round(read.n_rows / max(read.share, 1e-9))),
                unknown_token_share=_unknown_token_share(workspace.config.encoders.text),
            )
        write_table(validated.items, folder / "items.parquet")
        write_table(validated.interactions, folder / "interactions.parquet")
        write_table(validated.quarantine, folder / "quarantine.parquet")
        if validated.users is not None:
            write_table(validated.users, folder / "users.parquet")
        return {**validated.summary.to_json(), "lines": validated.summary.lines()}

    path = write_artifact(workspace.root, "dataset", fingerprint(made_from), made_from, fill)
    dataset = load_dataset(workspace)
    for line in dataset.summary["lines"]:
        console.print(f"  {line}", markup=False)
    if dataset.summary["n_quarantined"]:
        _show_refused(path / "quarantine.parquet")
        console.print(f"  every refused row, with its reason: {path / 'quarantine.parquet'}", markup=False)
    return dataset


def _show_refused(quarantine: Path) -> None:
    """One refused row for each file and reason, as an example of what is in the quarantine."""
    shown: set[tuple[str, str]] = set()
    for row in read_table(quarantine, QUARANTINE_SCHEMA).slice(0, MAX_LOOKED_AT).to_pylist():
        if (row["file"], row["reason"]) not in shown:
            shown.add((row["file"], row["reason"]))
            console.print(f"    {row['file']}:{row['line']}: {row['message']}", markup=False)


def _unknown_token_share(text_encoder: str) -> Callable[[Sequence[str]], float] | None:
    """None where there is no text encoder, or its tokenizer cannot be had here: embedding will say so."""
    try:
        preprocessor = text_preprocessor(text_encoder)
    except RecsysError:
        return None
    return None if preprocessor is None else preprocessor.unknown_share
