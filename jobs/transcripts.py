"""What is said in the items' sounds, as texts: `data/transcripts.*`, by hand or from whatever recognises speech.

JSON lines, CSV or Parquet with the columns `item_id` and `text`. Of two rows of one item the last counts, so that a
job may append. Rows that cannot be taken go to `artifacts/transcripts/quarantine.parquet`, with reasons.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from rich.markup import escape

from jobs.artifacts import load_dataset
from jobs.progress import console
from recsys.errors import InputError
from recsys.fields import parse_id, parse_text
from recsys.ingest.batches import Batch
from recsys.ingest.csv_reader import read_csv
from recsys.ingest.files import InputFile, find_transcripts
from recsys.ingest.jsonl_reader import read_jsonl
from recsys.ingest.parquet_reader import read_parquet
from recsys.interactions import write_table
from recsys.quarantine import Quarantine, Rejection, RowRefused
from recsys.workspace import Workspace

COLUMNS = ("item_id", "text")
MAX_CHARACTERS = 1_000_000


@dataclass(frozen=True)
class Transcripts:
    """What a file held.

    Attributes:
        texts: item_id → what is said; items without words are left out.
        quarantine: `recsys.quarantine.QUARANTINE_SCHEMA`.
    """

    texts: Mapping[str, str]
    quarantine: pa.Table


def transcripts(workspace: Workspace) -> Mapping[str, str]:
    """item_id → transcript, of the items that were validated last; empty where there is no file.

    Raises:
        InputError: the file is not what its name claims, lacks a column, or is one of two.
        MissingArtifact: nothing was validated yet.
    """
    file = find_transcripts(workspace.data_dir)
    kept = workspace.root / "artifacts" / "transcripts" / "quarantine.parquet"
    if file is None:
        kept.unlink(missing_ok=True)
        return {}
    found = read_transcripts(file, set(load_dataset(workspace).items["item_id"].to_pylist()))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_table(found.quarantine, kept)
    if len(found.quarantine):
        first = found.quarantine.slice(0, 1).to_pylist()[0]
        example = escape(f"{first['file']}:{first['line']}: {first['message']}")
        console.print(f"  [yellow]{len(found.quarantine)} transcripts refused[/], as {example}; all of them: {kept}")
    return found.texts


def read_transcripts(file: InputFile, item_ids: Container[str]) -> Transcripts:
    """Every row taken, or quarantined with its reason. Raises InputError: the file is not what it claims."""
    quarantine = Quarantine()
    taken: dict[str, tuple[int, str | None]] = {}
    for batch in _batches(file):
        refused = list(batch.rejected)
        for at, row in enumerate(batch.rows()):
            line = int(batch.lines[at])
            try:
                item_id, text = _row(row, item_ids)
            except RowRefused as error:
                refused.append(Rejection(line, error.column, error.reason, str(error), batch.raw(at)))
                continue
            if item_id in taken:
                earlier, said = taken.pop(item_id)
                message = "a later row has the same item_id; the last one counts"
                refused.append(Rejection(earlier, "item_id", "duplicate", message, f"{item_id}: {said or ''}"))
            taken[item_id] = line, text
        quarantine.add(file.name, refused)
    texts = {item_id: text for item_id, (_, text) in taken.items() if text is not None}
    return Transcripts(MappingProxyType(texts), quarantine.table())


def _row(row: Mapping[str, Any], item_ids: Container[str]) -> tuple[str, str | None]:
    item_id = parse_id(row.get("item_id"), "item_id")
    if item_id not in item_ids:
        raise RowRefused("unknown_item", "item_id", "no item of the catalogue has this item_id", value=item_id)
    return item_id, parse_text(row.get("text"), "text", MAX_CHARACTERS)


def _batches(file: InputFile) -> Iterator[Batch]:
    readers = {"csv": read_csv, "jsonl": read_jsonl}
    try:
        batches = readers[file.format](file) if file.format in readers else read_parquet(file, lambda names: COLUMNS)
        is_first = True
        for batch in batches:
            missing = [name for name in COLUMNS if name not in batch.names]
            if is_first and missing and batch.names:
                has = ", ".join(batch.names[:20])
                raise InputError(f"{file.path} has no column {' and no '.join(missing)}; it has {has}")
            is_first = is_first and not batch.names
            yield batch
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {error}") from None
