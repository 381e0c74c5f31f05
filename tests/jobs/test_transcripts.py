"""Transcripts: read from the data folder, each row taken or quarantined."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.transcripts import (
    MAX_CHARACTERS,
    TRANSCRIPTS_SCHEMA,
    read_transcripts,
    read_written,
    transcripts,
    write_transcripts,
)
from jobs.validate import validate_job
from recsys.errors import InputError, MissingArtifact
from recsys.ingest.files import find_transcripts
from recsys.workspace import CONFIG_NAME, Workspace
from tests.worlds.checkerboard import write_world

NOW = datetime(2024, 1, 3, tzinfo=UTC)

ROWS = [
    {"item_id": "a", "text": " hello  there "},
    {"item_id": "b", "text": "first"},
    {"item_id": "zz", "text": "of no item"},
    {"item_id": "c", "text": ""},
    {"item_id": "b", "text": "second"},
]
TAKEN = {"a": "hello  there", "b": "second"}
REFUSED = [(2, "item_id", "duplicate"), (3, "item_id", "unknown_item")]
ITEMS = {"a", "b", "c", "d"}


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def refusals(table: pa.Table) -> list[tuple[int, str, str]]:
    return [(row["line"], row["field"], row["reason"]) for row in table.to_pylist()]


@pytest.mark.parametrize(
    "name", ["transcripts.jsonl", "transcripts.jsonl.gz", "transcripts.csv", "transcripts.parquet"]
)
def test_every_format_gives_the_same_transcripts(name: str, tmp_path: Path) -> None:
    path, offset = tmp_path / name, 0
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS).append_column("vector", pa.array([b"x"] * len(ROWS))), path)
    elif name.endswith(".csv"):
        offset = 1  # its header
        path.write_text("item_id,text\n" + "".join(f'{row["item_id"]},"{row["text"]}"\n' for row in ROWS))
    else:
        path.write_bytes(gzip.compress(lines(ROWS).encode()) if name.endswith(".gz") else lines(ROWS).encode())
    file = find_transcripts(tmp_path)
    assert file is not None
    found = read_transcripts(file, ITEMS)
    assert dict(found.texts) == TAKEN
    assert refusals(found.quarantine) == [(line + offset, field, reason) for line, field, reason in REFUSED]


def test_a_bad_row_never_stops_a_good_one(tmp_path: Path) -> None:
    bad = ['{"item_id": 7.5, "text": "x"}', '{"item_id": "a", "text": 5}', "{broken", '{"text": "whose?"}']
    bad.append(json.dumps({"item_id": "d", "text": "x" * (MAX_CHARACTERS + 1)}))
    (tmp_path / "transcripts.jsonl").write_text("\n".join(bad) + "\n" + lines(ROWS[:1]))
    file = find_transcripts(tmp_path)
    assert file is not None
    found = read_transcripts(file, ITEMS)
    assert dict(found.texts) == {"a": "hello  there"}
    expected = ["wrong_type", "wrong_type", "not_json", "missing", "too_long"]
    assert [reason for _, _, reason in refusals(found.quarantine)] == expected


def test_a_file_without_the_columns_or_two_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "transcripts.csv").write_text("item_id,words\na,b\n")
    file = find_transcripts(tmp_path)
    assert file is not None
    with pytest.raises(InputError, match="no column text; it has item_id, words"):
        read_transcripts(file, ITEMS)
    (tmp_path / "transcripts.jsonl").write_text(lines(ROWS))
    with pytest.raises(InputError, match=r"remove all but one$"):
        find_transcripts(tmp_path)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    write_world(tmp_path / "data", n_items=8, n_users=4, profiles=True)
    (tmp_path / CONFIG_NAME).write_text('[encoders]\nimage = "fake"\ntext = "fake"\n')
    return Workspace.open(tmp_path)


def test_of_a_workspace_the_validated_items_are_known(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace.data_dir / "transcripts.jsonl").write_text(
        lines([{"item_id": "item-0003", "text": "crackling fire"}, {"item_id": "nobody", "text": "x"}])
    )
    with pytest.raises(MissingArtifact):
        transcripts(workspace)
    validate_job(workspace, now=NOW)
    assert dict(transcripts(workspace)) == {"item-0003": "crackling fire"}
    kept = workspace.root / "artifacts" / "transcripts" / "quarantine.parquet"
    assert refusals(pq.read_table(kept)) == [(2, "item_id", "unknown_item")]
    assert "1 transcripts refused" in capsys.readouterr().out
    (workspace.data_dir / "transcripts.jsonl").unlink()
    assert dict(transcripts(workspace)) == {}
    assert not kept.exists()


def record(text: str, language: str = "en") -> dict[str, object]:
    segments = [{"start_s": 0.5, "end_s": 2.0, "text": text, "confidence": 0.9}] if text else []
    sure = 0.8 if text else 0.0
    return {
        "text": text,
        "language": language if text else "",
        "language_confidence": sure,
        "duration_s": 2.5,
        "segments": segments,
    }


def test_what_people_give_wins_over_what_was_heard_also_where_they_say_that_it_is_nothing(workspace: Workspace) -> None:
    validate_job(workspace, now=NOW)
    ids = [f"item-{number:04d}" for number in range(5)]
    heard = [record("heard at zero"), record("heard at one"), record("heard at two"), record(""), None]
    write_transcripts(workspace, [*ids, "gone"], [*heard, record("of an item that is gone")], {"space": "s"})
    assert dict(transcripts(workspace)) == {
        "item-0000": "heard at zero",
        "item-0001": "heard at one",
        "item-0002": "heard at two",
    }
    given = [{"item_id": "item-0001", "text": "said by a person"}, {"item_id": "item-0002", "text": ""}]
    (workspace.data_dir / "transcripts.jsonl").write_text(lines(given))
    assert dict(transcripts(workspace)) == {"item-0000": "heard at zero", "item-0001": "said by a person"}


def test_what_was_heard_is_kept_with_its_moments_and_the_latest_counts(workspace: Workspace) -> None:
    validate_job(workspace, now=NOW)
    assert read_written(workspace) is None
    first = write_transcripts(workspace, ["item-0001", "item-0002"], [record("one"), record("")], {"space": "s"})
    table = read_written(workspace)
    assert table is not None
    assert table.schema == TRANSCRIPTS_SCHEMA
    one, silent = table.to_pylist()
    assert json.loads(one["segments"]) == [{"start_s": 0.5, "end_s": 2.0, "text": "one", "confidence": 0.9}]
    assert (silent["text"], silent["language"], silent["duration_s"]) == ("", "", 2.5)
    second = write_transcripts(workspace, ["item-0001"], [record("another")], {"space": "s"})
    assert second != first
    assert dict(transcripts(workspace)) == {"item-0001": "another"}
    again = write_transcripts(workspace, ["item-0001", "item-0002"], [record("one"), record("")], {"space": "s"})
    assert again == first
    assert dict(transcripts(workspace)) == {"item-0001": "one"}
