from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.tagging.human import Word, append_words, read_words
from embeddings.tagging.resolve import resolve
from embeddings.tagging.taxonomy import Taxonomy
from embeddings.tagging.word_files import WordFile, new_words, read_word_file
from recsys.errors import InputError
from tests.embeddings.tagging.tag_rows import NOON

ITEMS, TAGS = {"a", "b"}, {"dog", "cat"}
LATER = NOON + timedelta(days=1)


def word(item: str = "a", tag: str = "dog", verdict: str = "yes", by: str = "ann", at: datetime = NOON) -> Word:
    return Word(item, tag, verdict, by, at)  # type: ignore[arg-type]


def labels(path: Path, text: str, now: datetime = NOON) -> WordFile:
    path.write_text(text)
    return read_word_file(path, TAGS, ITEMS, by="ann", now=now)


def test_words_are_read_back_as_they_were_said(tmp_path: Path) -> None:
    path = tmp_path / "tags" / "human.jsonl"
    said = [word(), word("b", verdict="no", by="李雷\n", at=NOON)]
    append_words(path, said[:1])
    append_words(path, said[1:])
    assert list(read_words(path).words) == said
    assert read_words(path).table()["model"].to_pylist() == ["ann", "李雷\n"]


def test_a_workspace_without_the_file_has_no_words(tmp_path: Path) -> None:
    assert read_words(tmp_path / "human.jsonl").table().num_rows == 0


def test_bad_lines_are_told_by_number_and_cost_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "human.jsonl"
    append_words(path, [word()])
    with path.open("ab") as stream:
        stream.write(b'not json\n\n{"item_id": "b"}\n\xff\xfe\n')
        stream.write(b'{"item_id": "b", "tag": "dog", "verdict": "maybe", "by": "x", "at": "2026-01-01T00:00:00Z"}\n')
        stream.write(b'{"item_id": "b", "tag": "dog", "verdict": "no", "by": "x", "at": "2026-01-01T00:00:00"}\n')
    append_words(path, [word("b")])
    found = read_words(path)
    assert [each.line for each in found.bad_lines] == [2, 4, 5, 6, 7]
    assert all(each.message for each in found.bad_lines)
    assert list(found.words) == [word(), word("b")]


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "human.jsonl"
    append_words(path, [word(), word("b")])
    path.write_bytes(path.read_bytes()[:-9])
    append_words(path, [word("b", "cat")])
    found = read_words(path)
    assert list(found.words) == [word(), word("b", "cat")]
    assert [each.line for each in found.bad_lines] == [2]


def test_several_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path, root = tmp_path / "human.jsonl", Path(__file__).parents[3]
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime\n"
        "from embeddings.tagging.human import Word, append_words\n"
        "for n in range(40):\n"
        "    words = [Word(f'{sys.argv[2]}-{n}', 'dog', 'yes', 'x' * 200, datetime.now(UTC)) for _ in range(3)]\n"
        "    append_words(Path(sys.argv[1]), words)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)], cwd=root) for who in range(3)]
    assert [each.wait(60) for each in running] == [0, 0, 0]
    found = read_words(path)
    assert not found.bad_lines
    ids = [each.item_id for each in found.words]
    assert len(ids) == 360
    assert all(ids[at] == ids[at + 1] == ids[at + 2] for at in range(0, 360, 3))


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "tags").write_text("a file where a folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        append_words(tmp_path / "tags" / "human.jsonl", [word()])


def test_labels_are_read_and_what_cannot_be_taken_is_refused_row_by_row(tmp_path: Path) -> None:
    found = labels(
        tmp_path / "labels.csv",
        "item_id,tag,verdict,by,at\n"
        "a,dog,Yes,bob,2025-02-01T00:00:00Z\n"
        "b,DOG,0,,\n"
        "a,cat,,,\n"
        "a,unicorn,yes,,\n"
        "gone,dog,yes,,\n"
        "a,dog,perhaps,,\n"
        "a,dog,yes,,yesterday\n"
        "a,dog,yes,,2099-01-01T00:00:00Z\n",
    )
    assert [(each.item_id, each.tag, each.verdict, each.by, each.at) for each in found.words] == [
        ("a", "dog", "yes", "bob", datetime(2025, 2, 1, tzinfo=UTC)),
        ("b", "dog", "no", "ann", NOON),
    ]
    assert found.not_filled_in == 1
    refused = found.quarantine.select(["line", "field", "reason"]).to_pylist()
    assert [tuple(each.values()) for each in refused] == [
        (5, "tag", "unknown_tag"),
        (6, "item_id", "unknown_item"),
        (7, "verdict", "out_of_range"),
        (8, "at", "bad_time"),
        (9, "at", "future_time"),
    ]


def test_labels_come_as_json_lines_and_parquet_too(tmp_path: Path) -> None:
    of_json = labels(tmp_path / "labels.jsonl", '{"item_id": "a", "tag": "dog", "value": true}\n')
    path = tmp_path / "labels.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "tag": ["dog"], "value": [1.0], "more": [b"x"]}), path)
    of_parquet = read_word_file(path, TAGS, ITEMS, by="ann", now=NOON)
    assert [len(each.words) for each in (of_json, of_parquet)] == [1, 1]
    assert of_parquet.words[0].verdict == "yes"


def test_a_file_without_the_columns_is_refused_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no column tag and no verdict"):
        labels(tmp_path / "labels.csv", "item_id,label\na,dog\n")
    with pytest.raises(InputError, match="no file of labels"):
        read_word_file(tmp_path / "labels.xlsx", TAGS, ITEMS, by="ann", now=NOON)


def test_importing_twice_says_nothing_new_even_after_a_change_of_mind(tmp_path: Path) -> None:
    path, kept = tmp_path / "labels.csv", tmp_path / "human.jsonl"
    text = "item_id,tag,verdict\na,dog,yes\nb,dog,no\n"
    append_words(kept, new_words(labels(path, text).words, read_words(kept)))
    assert len(read_words(kept).words) == 2
    append_words(kept, [word("a", verdict="no", at=LATER)])
    assert new_words(labels(path, text, now=LATER + timedelta(days=1)).words, read_words(kept)) == []


def test_the_last_of_two_rows_of_one_file_counts(tmp_path: Path) -> None:
    found = labels(tmp_path / "labels.csv", "item_id,tag,verdict\na,dog,yes\na,dog,no\n")
    kept = tmp_path / "human.jsonl"
    append_words(kept, new_words(found.words, read_words(kept)))
    assert resolve(["a"], [], read_words(kept).table(), Taxonomy(tags={})).tags == ((),)
