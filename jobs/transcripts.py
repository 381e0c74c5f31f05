"""What is said in the items' sounds, as texts: what people give, else what `recsys tag --head speech` heard.

People give `data/transcripts.*`: JSON lines, CSV or Parquet with the columns `item_id` and `text`. Of two rows of one
item the last counts, so that a job may append; an empty text says that nothing is said. Rows that cannot be taken go
to `artifacts/transcripts/quarantine.parquet`, with reasons.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
from rich.markup import escape

from jobs.artifacts import load_dataset
from jobs.progress import console
from recsys.errors import MissingArtifact
from recsys.fields import parse_id, parse_text
from recsys.ingest.files import InputFile, find_transcripts
from recsys.ingest.readers import read_columns
from recsys.interactions import read_table, write_table
from recsys.manifest import canonical_json, fingerprint
from recsys.quarantine import QUARANTINE_SCHEMA, Quarantine, Rejection, RowRefused
from recsys.storage.artifact_files import read_artifact, write_artifact
from recsys.workspace import Workspace

COLUMNS = ("item_id", "text")
MAX_CHARACTERS = 1_000_000
KIND, TRANSCRIPTS_FILE = "transcripts", "transcripts.parquet"
TRANSCRIPTS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # "" = nobody speaks
        pa.field("language", pa.string(), nullable=False),
        pa.field("language_confidence", pa.float32(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("segments", pa.string(), nullable=False),  # JSON: [{"start_s", "end_s", "text", "confidence"}]
    ]
)


@dataclass(frozen=True)
class Transcripts:
    """What a file held.

    Attributes:
        texts: item_id → what is said; items without words are left out.
        silent: items of which a row says that nothing is said.
        quarantine: `recsys.quarantine.QUARANTINE_SCHEMA`.
    """

    texts: Mapping[str, str]
    silent: frozenset[str]
    quarantine: pa.Table


def transcripts(workspace: Workspace) -> Mapping[str, str]:
    """item_id → transcript, of the items that were validated last; what people say of an item wins.

    Raises:
        InputError: the file is not what its name claims, lacks a column, or is one of two.
        MissingArtifact: nothing was validated yet, and there are transcripts.
    """
    given, heard = _given(workspace), _heard(workspace)
    if heard:
        there = set(load_dataset(workspace).items["item_id"].to_pylist())
        heard = {item_id: text for item_id, text in heard.items() if item_id in there and item_id not in given.silent}
    return {**heard, **given.texts}


def write_transcripts(
    workspace: Workspace,
    item_ids: Sequence[str],
    records: Sequence[Mapping[str, Any] | None],
    made_from: Mapping[str, Any],
) -> Path:
    """The artifact `transcripts`: what `embeddings.tagging.speech` heard, in the order given; the latest one counts.

    Args:
        records: of each item; None where it has no sound, or one that cannot be read: such items have no row.
        made_from: what decides the records, as their embedding space.
    """
    rows = [
        {
            "item_id": item_id,
            **{name: record[name] for name in ("text", "language", "language_confidence", "duration_s")},
            "segments": canonical_json(record["segments"]),
        }
        for item_id, record in zip(item_ids, records, strict=True)
        if record is not None
    ]
    table = pa.Table.from_pylist(rows, schema=TRANSCRIPTS_SCHEMA)

    def fill(folder: Path) -> dict[str, Any]:
        write_table(table, folder / TRANSCRIPTS_FILE)
        return {"items": len(table), "with_words": sum(bool(row["text"]) for row in rows)}

    known = {**made_from, "rows": fingerprint(rows)}
    return write_artifact(workspace.root, KIND, fingerprint(known), known, fill)


def read_written(workspace: Workspace) -> pa.Table | None:
    """`TRANSCRIPTS_SCHEMA`: the artifact that was written last; None where nothing was heard yet."""
    try:
        folder, _ = read_artifact(workspace.root, KIND)
    except MissingArtifact:
        return None
    return read_table(folder / TRANSCRIPTS_FILE, TRANSCRIPTS_SCHEMA)


def _heard(workspace: Workspace) -> dict[str, str]:
    table = read_written(workspace)
    if table is None:
        return {}
    pairs = zip(table["item_id"].to_pylist(), table["text"].to_pylist(), strict=True)
    return {item_id: text for item_id, text in pairs if text}


def _given(workspace: Workspace) -> Transcripts:
    file = find_transcripts(workspace.data_dir)
    kept = workspace.root / "artifacts" / "transcripts" / "quarantine.parquet"
    if file is None:
        kept.unlink(missing_ok=True)
        return Transcripts({}, frozenset(), QUARANTINE_SCHEMA.empty_table())
    found = read_transcripts(file, set(load_dataset(workspace).items["item_id"].to_pylist()))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_table(found.quarantine, kept)
    if len(found.quarantine):
        first = found.quarantine.slice(0, 1).to_pylist()[0]
        example = escape(f"{first['file']}:{first['line']}: {first['message']}")
        console.print(f"  [yellow]{len(found.quarantine)} transcripts refused[/], as {example}; all of them: {kept}")
    return found


def read_transcripts(file: InputFile, item_ids: Container[str]) -> Transcripts:
    """Every row taken, or quarantined with its reason. Raises InputError: the file is not what it claims."""
    quarantine = Quarantine()
    taken: dict[str, tuple[int, str | None]] = {}
    for batch in read_columns(file, COLUMNS, _problem):
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
    silent = frozenset(item_id for item_id, (_, text) in taken.items() if text is None)
    return Transcripts(MappingProxyType(texts), silent, quarantine.table())


def _row(row: Mapping[str, Any], item_ids: Container[str]) -> tuple[str, str | None]:
    item_id = parse_id(row.get("item_id"), "item_id")
    if item_id not in item_ids:
        raise RowRefused("unknown_item", "item_id", "no item of the catalogue has this item_id", value=item_id)
    return item_id, parse_text(row.get("text"), "text", MAX_CHARACTERS)


def _problem(names: Sequence[str]) -> str:
    missing = [name for name in COLUMNS if name not in names]
    return f"has no column {' and no '.join(missing)}" if missing else ""
