"""The labels of people: what a row says, what it implies, and which rows cannot be taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embeddings.tagging.labels import Labels, read_labels
from embeddings.tagging.taxonomy import TagDefinition, Taxonomy
from recsys.errors import InputError

ANIMALS = Taxonomy(
    tags={
        "animal": TagDefinition(),
        "dog": TagDefinition(parent="animal", names={"de": "Hund"}, labels=("Labrador",)),
        "cat": TagDefinition(parent="animal"),
        "day": TagDefinition(group="light"),
        "night": TagDefinition(group="light"),
        "bark": TagDefinition(modalities=("audio",)),
    }
)


def written(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def pairs(labels: Labels) -> dict[tuple[str, str], bool]:
    """What is known."""
    return {
        (item, tag): bool(labels.y[row, column])
        for row, item in enumerate(labels.item_ids)
        for column, tag in enumerate(labels.tags)
        if labels.known[row, column]
    }


def refusals(labels: Labels) -> list[tuple[int, str]]:
    return [(row["line"], row["reason"]) for row in labels.quarantine.to_pylist()]


def test_without_values_a_listed_item_is_fully_labelled(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "item_id,tag\n007,sea\n007,sun\n8,sun\n9,\n"))
    assert labels.item_ids == ("007", "8", "9")
    assert labels.tags == ("sea", "sun")
    assert labels.known.all()
    np.testing.assert_array_equal(labels.y, [[1, 1], [0, 1], [0, 0]])
    assert labels.y.dtype == np.float32


def test_a_tag_in_another_case_is_the_same_tag(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "item_id,tag\na,Sea\nb,sea\nc,SEA\nd,sun\n"))
    assert labels.tags == ("Sea", "sun")
    np.testing.assert_array_equal(labels.y[:, 0], [1, 1, 1, 0])


def test_with_values_only_the_pairs_named_are_known(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "item_id\tlabel\tvalue\na\tsea\tyes\na\tsun\t0\nb\tsun\tTRUE\n", "l.tsv"))
    assert pairs(labels) == {("a", "sea"): True, ("a", "sun"): False, ("b", "sun"): True}


def test_every_format_says_the_same(tmp_path: Path) -> None:
    rows = [{"item_id": "a", "tag": "sea", "value": True}, {"item_id": "b", "tag": "sea", "value": False}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")
    written(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "labels.jsonl")
    written(tmp_path, "item_id,tag,value\na,sea,1\nb,sea,no\n", "labels.csv")
    found = [pairs(read_labels(tmp_path / f"labels.{ending}")) for ending in ("parquet", "jsonl", "csv")]
    assert found == [{("a", "sea"): True, ("b", "sea"): False}] * 3


def test_a_bad_row_goes_to_the_findings_and_stops_nobody(tmp_path: Path) -> None:
    text = "item_id,tag,value\na,sea,1\n,sea,1\nzzz,sea,1\na,sun,maybe\na,sun\nb,sea,0\nb,sea,\n"
    labels = read_labels(written(tmp_path, text), item_ids={"a", "b"})
    assert pairs(labels) == {("a", "sea"): True, ("b", "sea"): False}
    assert refusals(labels) == [
        (3, "missing"),
        (4, "unknown_item"),
        (5, "wrong_type"),
        (6, "wrong_columns"),
        (8, "missing"),
    ]


def test_of_two_rows_of_one_pair_the_last_counts(tmp_path: Path) -> None:
    labels = read_labels(written(tmp_path, "item_id,tag,value\na,sea,1\na,sea,0\n"))
    assert pairs(labels) == {("a", "sea"): False}
    assert refusals(labels) == [(2, "duplicate")]


def test_a_taxonomy_takes_ids_names_and_labels_without_case_and_nothing_else(tmp_path: Path) -> None:
    text = "item_id,tag\na,DOG\nb,hund\nc,labrador\nd,unicorn\n"
    labels = read_labels(written(tmp_path, text), taxonomy=ANIMALS)
    assert labels.tags == ("dog",)
    assert labels.item_ids == ("a", "b", "c")
    assert refusals(labels) == [(5, "unknown_tag")]


def test_tags_that_this_head_may_not_give_are_not_learned(tmp_path: Path) -> None:
    text = "item_id,tag\na,dog\na,bark\n"
    assert read_labels(written(tmp_path, text), taxonomy=ANIMALS, head="image").tags == ("dog",)
    assert read_labels(written(tmp_path, text), taxonomy=ANIMALS, head="audio").tags == ("dog", "bark")


def test_a_dog_is_an_animal_unless_a_row_says_otherwise(tmp_path: Path) -> None:
    text = "item_id,tag,value\na,dog,1\nb,dog,1\nb,animal,0\nc,dog,0\n"
    labels = read_labels(written(tmp_path, text), taxonomy=ANIMALS)
    known = pairs(labels)
    assert known[("a", "animal")] is True
    assert known[("b", "animal")] is False
    assert ("c", "animal") not in known


def test_what_is_day_is_not_night(tmp_path: Path) -> None:
    text = "item_id,tag,value\na,day,1\nb,night,1\nb,day,1\nc,night,0\n"
    labels = read_labels(written(tmp_path, text), taxonomy=ANIMALS)
    expected = {("a", "day"): True, ("a", "night"): False, ("b", "day"): True, ("b", "night"): False}
    assert pairs(labels) == expected | {("c", "night"): False}
    assert refusals(labels) == [(3, "duplicate")]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("labels.csv", "item_id,genre\na,sea\n", "item_id and tag"),
        ("labels.csv", "item_id,tag\nzzz,sea\n", "unknown_item|no item of the catalogue"),
        ("labels.xlsx", "item_id,tag\n", "no file of labels"),
    ],
)
def test_a_file_without_anything_to_learn_says_why(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_labels(written(tmp_path, text, name), item_ids={"a"})
