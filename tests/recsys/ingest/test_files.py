"""A file that is missing, or is not what it claims, is one clear error."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from recsys.errors import ConfigError, InputError
from recsys.ingest.files import BLOCK_BYTES
from tests.recsys.ingest.folder import Folder, of_kind, reasons

GOOD_LINE = '{"user_id": "u", "item_id": "a"}\n'


def error_of(folder: Folder, **config: object) -> str:
    with pytest.raises(InputError) as caught:
        folder.validate(**config)
    return str(caught.value)


def test_a_folder_that_is_not_there_says_what_to_put_where(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.path = tmp_path / "nowhere"
    assert "put items.* and interactions.* into it" in error_of(folder)


def test_missing_files_are_named_with_what_is_there(folder: Folder) -> None:
    message = error_of(folder)
    assert "has no interactions file" in message
    assert "interactions.parquet" in message
    assert "it holds items.jsonl" in message
    (folder.path / "items.jsonl").unlink()
    assert "has no items file" in error_of(folder)


def test_two_files_of_one_name_are_refused_until_one_is_chosen(folder: Folder) -> None:
    folder.csv("interactions", "user_id,item_id", "u,a")
    (folder.path / "interactions.jsonl").write_text(GOOD_LINE * 2)
    message = error_of(folder)
    assert "interactions.csv and interactions.jsonl" in message
    assert 'interactions_file = "interactions.csv"' in message
    assert folder.validate(interactions_file="interactions.jsonl").summary.n_interactions == 2
    assert "no such file" in error_of(folder, interactions_file="typo.csv")


def test_events_alone_are_interactions_enough(folder: Folder) -> None:
    folder.parquet("events/0", {"event_id": ["e"], "user_id": ["u"], "item_id": ["a"]})
    assert folder.validate().summary.n_interactions == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("interactions.parquet", b"user_id,item_id\nu,a\n", "looks like text: name it .csv"),
        ("interactions.parquet", GOOD_LINE.encode(), "name it .jsonl"),
        ("interactions.parquet", b"", "is not Parquet"),
        ("interactions.parquet", b"PAR1" + b"\x00" * 100, "damaged Parquet"),
        ("interactions.csv", GOOD_LINE.encode(), "not CSV but JSON"),
        ("interactions.csv", b"", "is empty"),
        ("interactions.csv", b"\n\n", "is empty"),
        ("interactions.csv", "user_id,item_id\nu,a".encode("utf-16"), "UTF-16"),
        ("interactions.csv", b"user_id,item_id,user_id\nu,a,v\n", "two columns called 'user_id'"),
        ("interactions.csv", b"user_id,item\xff\nu,a\n", "is not UTF-8"),
        ("interactions.csv", b"PK\x03\x04abc", "Excel"),
        ("interactions.csv", b"user_id,item_id\ru,a\r", "does not name columns"),
        ("interactions.jsonl", b"user_id,item_id\nu,a\n", "is not JSON lines"),
        ("interactions.jsonl", b'[{"user_id": "u", "item_id": "a"}]', "one JSON array"),
        ("interactions.jsonl", b'{\n  "user_id": "u",\n  "item_id": "a"\n}\n', "over several lines"),
        ("interactions.jsonl", b"{}\n{}\n", "has no column 'user_id'; it has none"),
        ("interactions.jsonl", bytes(range(256)) * 40, "is not JSON lines"),
        ("interactions.jsonl", b"PAR1" + bytes(100), "Parquet: name it .parquet"),
        ("interactions.jsonl", gzip.compress(GOOD_LINE.encode()), "gzip"),
        ("interactions.jsonl.gz", GOOD_LINE.encode(), "not readable as gzip"),
        ("interactions.jsonl.gz", gzip.compress(GOOD_LINE.encode() * 9)[:-9], "not readable as gzip"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_one_error(folder: Folder, name: str, content: bytes, says: str) -> None:
    message = error_of(folder.write(name, content))
    assert says in message
    assert name in message


def test_a_parquet_file_that_breaks_off_is_one_error(folder: Folder) -> None:
    folder.parquet("interactions", {"user_id": ["u"] * 100, "item_id": ["a"] * 100})
    path = folder.path / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert "damaged Parquet" in error_of(folder)


def test_a_missing_column_names_those_found_and_the_line_that_maps_one(folder: Folder) -> None:
    message = error_of(folder.csv("interactions", "userId,movieId,rating", "u,a,5"))
    assert "'userId', 'movieId', 'rating'" in message
    assert '[data.columns.interactions]\nuser_id = "userId"' in message
    message = error_of(folder, columns={"interactions": {"user_id": "userId"}})
    assert '[data.columns.interactions]\nitem_id = "movieId"' in message
    message = error_of(folder, columns={"interactions": {"user_id": "user"}})
    assert "no column 'user', which [data.columns.interactions] names as user_id" in message


def test_a_mapping_of_a_field_that_does_not_exist_is_refused(folder: Folder) -> None:
    folder.csv("interactions", "user_id,item_id", "u,a")
    with pytest.raises(ConfigError, match="maps 'user', which is none of user_id"):
        folder.validate(columns={"interactions": {"user": "user_id"}})


def test_a_json_file_of_blank_lines_holds_no_rows(folder: Folder) -> None:
    folder.write("interactions.jsonl", "\n \n\r\n")
    assert of_kind(folder.validate(), "interactions").n_rows == 0


def test_gzipped_text_is_read(folder: Folder) -> None:
    folder.write("interactions.csv.gz", gzip.compress(b"user_id,item_id\nu,a\n"))
    assert folder.validate().summary.n_interactions == 1


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_are_told_from_the_header(folder: Folder, delimiter: str) -> None:
    lines = ["user_id,item_id,value", "u,a,1"]
    folder.csv("interactions", *(line.replace(",", delimiter) for line in lines))
    assert folder.validate().interactions["value"].to_pylist() == [1.0]


def test_a_byte_order_mark_is_no_part_of_the_first_name(folder: Folder) -> None:
    folder.write("interactions.csv", "\ufeffuser_id,item_id\r\nu,a\r\n")
    assert folder.validate().interactions["item_id"].to_pylist() == ["a"]
    folder.write("interactions.jsonl", "\ufeff" + GOOD_LINE)
    assert folder.validate().interactions["user_id"].to_pylist() == ["u"]


def test_quoted_fields_may_hold_line_breaks_and_lines_are_counted_as_editors_do(folder: Folder) -> None:
    folder.csv("items", "item_id,title", 'a,"two', 'lines"', 'b,"say ""hi"""', "c", 'd,12" vinyl')
    folder.csv("interactions", "user_id,item_id", "u,a")
    validated = folder.validate()
    assert validated.items["title"].to_pylist() == ["two\nlines", 'say "hi"', '12" vinyl']
    assert validated.items["line"].to_pylist() == [2, 4, 6]
    assert reasons(validated) == [(5, "", "wrong_columns")]


def test_a_quote_that_is_never_closed_costs_its_own_line_alone(folder: Folder) -> None:
    rows = [f"{n},title {n}" for n in range(50)]
    rows[7] = '7,"title 7'
    rows[30] = '30,"title 30'
    folder.csv("items", "item_id,title", *rows)
    folder.csv("interactions", "user_id,item_id", "u,1")
    validated = folder.validate()
    assert len(validated.items) == 48
    assert reasons(validated) == [(9, "", "not_csv"), (32, "", "not_csv")]


def test_a_quoted_field_may_cross_the_block_that_is_read_at_once(folder: Folder) -> None:
    padding = "x" * 1000
    n_lines = BLOCK_BYTES // 1000
    rows = [f'{n},"{padding}\n{n}"' for n in range(n_lines)]
    folder.csv("items", "item_id,description", *rows)
    folder.csv("interactions", "user_id,item_id", "u,1")
    validated = folder.validate()
    assert of_kind(validated, "items").n_quarantined == 0
    assert validated.items["description"].to_pylist() == [f"{padding}\n{n}" for n in range(n_lines)]
    assert validated.items["line"].to_pylist() == [2 + 2 * n for n in range(n_lines)]


def test_a_json_file_longer_than_one_block_keeps_its_lines(folder: Folder) -> None:
    n_rows = BLOCK_BYTES // 100
    lines = [f'{{"user_id": "u{n:07d}", "item_id": "a", "note": "{"x" * 60}"}}' for n in range(n_rows)]
    lines[-3] = "not json"
    validated = folder.write("interactions.jsonl", "\n".join(lines)).validate()
    assert validated.summary.n_interactions == n_rows - 1
    assert reasons(validated) == [(n_rows - 2, "", "not_json")]
    assert validated.interactions["line"][-1].as_py() == n_rows
