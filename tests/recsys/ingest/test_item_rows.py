"""Items and users as files write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from tests.recsys.ingest.folder import Folder, of_kind, reasons


@pytest.fixture
def shop(folder: Folder) -> Folder:
    return folder.csv("interactions", "user_id,item_id", "u,a")


def test_a_csv_of_items_is_read_with_types(shop: Folder) -> None:
    shop.csv(
        "items",
        "item_id,title,categories,price,hidden,available_from,attributes,image",
        'a,"Salt, pepper",Food|Spice,2.5,false,2026-01-01T00:00:00Z,"{""year"": 1990}",img/a.png',
        'b,,"[""x|y"", ""z""]",,TRUE,,,',
    )
    first, second = shop.validate().items.drop(["line", "description", "audio"]).to_pylist()
    assert first == {
        "item_id": "a",
        "title": "Salt, pepper",
        "categories": ["Food", "Spice"],
        "image": "img/a.png",
        "price": 2.5,
        "available_from": datetime(2026, 1, 1, tzinfo=UTC),
        "available_until": None,
        "hidden": False,
        "attributes": '{"year":1990}',
    }
    assert (second["title"], second["categories"], second["hidden"]) == (None, ["x|y", "z"], True)


def test_a_parquet_of_items_is_read_with_types(shop: Folder) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    shop.parquet(
        "items",
        {
            "item_id": pa.array([1, 2], pa.int32()),
            "categories": pa.array([["x"], None]),
            "available_from": pa.array([moment, None], pa.timestamp("ns", "Europe/Berlin")),
            "hidden": pa.array([1, 0], pa.int8()),
            "price": pa.array([1, None], pa.float32()),
            "attributes": pa.array([{"year": 1990}, {"year": None}]),
            "title": pa.array([b"Stra\xc3\x9fe", b"\xff"], pa.binary()),
        },
    )
    validated = shop.validate()
    [item] = validated.items.to_pylist()
    assert (item["item_id"], item["title"], item["hidden"], item["available_from"]) == ("1", "Straße", True, moment)
    assert item["attributes"] == '{"year":1990}'
    assert (2, "title", "broken_utf8") in reasons(validated)


def test_parquet_values_that_python_cannot_hold_cost_their_own_row_alone(shop: Folder) -> None:
    names = pa.array([[b"x"], [b"\xff"], [b"y"], []], pa.list_(pa.binary())).cast(pa.list_(pa.string()), safe=False)
    columns = {
        "item_id": ["a", "b", "c", "d"],
        "categories": pa.Array.from_buffers(names.type, 4, names.buffers()[:2], children=[names.values]),
        "available_until": pa.array([0, 0, 10**15, None], pa.timestamp("s", "UTC")),  # 10**15 s: 31 million years
    }
    validated = shop.parquet("items", columns).validate()
    assert validated.items["item_id"].to_pylist() == ["a", "d"]
    assert set(reasons(validated)) == {(2, "categories", "broken_utf8"), (3, "available_until", "bad_time")}


def test_a_column_that_nothing_reads_is_not_even_decoded(shop: Folder) -> None:
    shop.parquet("items", {"item_id": ["a"], "vector": pa.array([[0.5] * 4])})
    validated = shop.validate()
    assert of_kind(validated, "items").ignored_columns == ("vector",)
    assert of_kind(validated, "items").n_accepted == 1


def test_of_two_rows_with_one_item_id_the_last_counts(shop: Folder) -> None:
    rows = [{"item_id": "a", "title": "old"}, {"item_id": "b"}, {"item_id": "a", "title": "new"}]
    validated = shop.jsonl("items", rows).validate()
    assert validated.items["title"].to_pylist() == [None, "new"]
    assert reasons(validated) == [(1, "item_id", "duplicate")]
    assert '"title":"old"' in validated.quarantine["raw"][0].as_py()


def test_a_bad_item_never_stops_a_good_one(shop: Folder) -> None:
    rows = [{"item_id": "a"}, {"item_id": "b", "price": -1}, {"title": "no id"}, {"item_id": "c", "image": "/x.png"}]
    validated = shop.jsonl("items", [*rows, {"item_id": "d"}]).validate()
    assert validated.items["item_id"].to_pylist() == ["a", "d"]
    assert reasons(validated) == [
        (2, "price", "out_of_range"),
        (3, "item_id", "missing"),
        (4, "image", "outside_folder"),
    ]
    counts = of_kind(validated, "items")
    assert (counts.n_rows, counts.n_accepted, counts.n_quarantined) == (5, 2, 3)


def test_an_empty_catalogue_is_a_catalogue(folder: Folder) -> None:
    validated = folder.write("items.jsonl", "").csv("interactions", "user_id,item_id", "u,a").validate()
    assert len(validated.items) == 0
    assert reasons(validated) == [(2, "item_id", "unknown_item")]


def test_users_have_attributes_and_text(shop: Folder) -> None:
    shop.jsonl(
        "users",
        [
            {"user_id": 1, "text": " likes horror ", "attributes": {"age": 40}},
            {"user_id": "2", "text": 5},
            {"user_id": "1", "text": "likes comedies"},
        ],
    )
    validated = shop.validate()
    assert validated.users is not None
    assert validated.users.to_pylist() == [{"user_id": "1", "attributes": None, "text": "likes comedies", "line": 3}]
    assert reasons(validated) == [(1, "user_id", "duplicate"), (2, "text", "wrong_type")]


def test_without_a_users_file_there_is_no_users_table(shop: Folder) -> None:
    assert shop.validate().users is None


def test_columns_may_be_mapped_also_into_attributes_and_context(folder: Folder) -> None:
    folder.csv("items", "movieId,name,year", "a,Alien,1979", "b,Brazil,")
    folder.csv("interactions", "uid,movieId,device", "u,a,phone", "u,b,")
    validated = folder.validate(
        columns={
            "items": {"item_id": "movieId", "title": "name", "attributes.year": "year"},
            "interactions": {"user_id": "uid", "item_id": "movieId", "context.device": "device"},
        }
    )
    assert validated.items["attributes"].to_pylist() == ['{"year":1979}', None]
    assert validated.interactions["context"].to_pylist() == ['{"device":"phone"}', None]
    assert all(not file.ignored_columns for file in validated.summary.files)


def test_image_root_lets_pictures_lie_beside_the_data(shop: Folder) -> None:
    shop.jsonl("items", [{"item_id": "a", "image": "../posters/1.webp"}])
    assert (1, "image", "outside_folder") in reasons(shop.validate())
    assert shop.validate(image_root="..").items["image"].to_pylist() == ["../posters/1.webp"]


def test_validation_is_a_function_of_the_files(shop: Folder) -> None:
    shop.jsonl("items", [{"item_id": "a", "attributes": {"b": 1, "a": 2}}, {"item_id": "b", "price": -1}])
    first, second = shop.validate(), shop.validate()
    assert first.items.equals(second.items)
    assert first.interactions.equals(second.interactions)
    assert first.quarantine.equals(second.quarantine)
