from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import CorruptArtifact
from recsys.tag_details import ROWS_READ_AT_ONCE, TagDetails, write_tag_details
from recsys.tags import TAGS_SCHEMA
from tests.worlds.tagged_items import said

IDS = pa.chunked_array([pa.array(["b", "a", "c"])])


def written(path: Path, *rows: tuple[str, str]) -> TagDetails:
    table = pa.Table.from_pylist([said(item_id, tag) for item_id, tag in rows], schema=TAGS_SCHEMA)
    write_tag_details(table, path / "tags.parquet")
    return TagDetails(path / "tags.parquet", IDS)


def test_what_is_said_of_an_item_is_found_by_its_row(tmp_path: Path) -> None:
    details = written(tmp_path, ("b", "x"), ("b", "y"), ("c", "x"))
    assert [[each["tag"] for each in details.of(row)] for row in range(4)] == [["x", "y"], [], ["x"], []]
    assert details.of(2) == [said("c", "x") | {"confidence": pytest.approx(0.9)}]
    assert len(details) == len(details.table()) == 3


def test_rows_that_lie_over_several_groups_of_the_file_are_all_found(tmp_path: Path) -> None:
    n = ROWS_READ_AT_ONCE
    details = written(
        tmp_path, *[("b", f"t{at}") for at in range(n - 1)], *[("a", f"t{at}") for at in range(n + 2)], ("c", "x")
    )
    assert len(details.of(0)) == n - 1
    assert [each["tag"] for each in details.of(1)] == [f"t{at}" for at in range(n + 2)]
    assert [each["tag"] for each in details.of(2)] == ["x"]


def test_a_file_without_rows_says_nothing(tmp_path: Path) -> None:
    assert written(tmp_path).of(0) == []


def test_a_file_that_was_removed_meanwhile_is_read_all_the_same(tmp_path: Path) -> None:
    details = written(tmp_path, ("b", "x"))
    (tmp_path / "tags.parquet").unlink()
    assert len(details.of(0)) == 1


@pytest.mark.parametrize("rows", [[("c", "x"), ("b", "x")], [("b", "x"), ("unknown", "x")]])
def test_rows_that_do_not_belong_to_the_items_are_refused(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    with pytest.raises(CorruptArtifact, match="of other items"):
        written(tmp_path, *rows).of(0)


def test_what_is_no_file_of_tags_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tags.parquet"
    path.write_bytes(b"no Parquet")
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        TagDetails(path, IDS)
    pq.write_table(pa.table({"item_id": ["a"]}), path)
    with pytest.raises(CorruptArtifact, match="other columns"):
        TagDetails(path, IDS)
