"""What an item may be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.catalog import (
    ITEM_FIELDS,
    ITEMS_SCHEMA,
    CatalogItem,
    DataConfig,
    ItemRules,
    category_matrix,
    items_table,
    validate_item,
)
from recsys.errors import InvalidRequest
from recsys.quarantine import RowRefused

IN_A_FILE = ItemRules(file_root=".")


def refused(fields: dict[str, Any], rules: ItemRules = IN_A_FILE) -> tuple[str, str]:
    with pytest.raises(RowRefused) as caught:
        validate_item({"item_id": "a", **fields}, rules)
    assert isinstance(caught.value, InvalidRequest)
    return caught.value.field, caught.value.reason


def test_an_item_needs_nothing_but_its_id() -> None:
    assert validate_item({"item_id": "a"}) == CatalogItem("a")


def test_a_full_item_is_read() -> None:
    item = validate_item(
        {
            "item_id": 12,
            "title": " Alien ",
            "description": "",
            "categories": ["Horror", "Horror", " Science fiction", "", 7],
            "image": "./posters/./1.webp",
            "audio": "https://example.org/a.ogg",
            "price": 3,
            "available_from": "2026-01-01T01:00:00+01:00",
            "available_until": "2026-02-01T00:00:00Z",
            "hidden": True,
            "attributes": {"year": 1979, "cast": ["Weaver"]},
        },
        IN_A_FILE,
    )
    assert item == CatalogItem(
        item_id="12",
        title="Alien",
        categories=("Horror", "Science fiction", "7"),
        image="posters/1.webp",
        audio="https://example.org/a.ogg",
        price=3.0,
        available_from=datetime(2026, 1, 1, tzinfo=UTC),
        available_until=datetime(2026, 2, 1, tzinfo=UTC),
        hidden=True,
        attributes={"year": 1979, "cast": ["Weaver"]},
    )
    assert item.to_json()["available_from"] == "2026-01-01T00:00:00Z"


def test_what_an_item_writes_as_json_can_be_read_again() -> None:
    item = CatalogItem("a", "t", categories=("x",), price=1.5, available_from=datetime(2026, 1, 1, tzinfo=UTC))
    assert validate_item(item.to_json()) == item


@pytest.mark.parametrize(
    ("fields", "pointer", "reason"),
    [
        ({"item_id": None}, "/item_id", "missing"),
        ({"item_id": ""}, "/item_id", "missing"),
        ({"item_id": 1.0}, "/item_id", "wrong_type"),
        ({"item_id": True}, "/item_id", "wrong_type"),
        ({"item_id": "x" * 257}, "/item_id", "id_too_long"),
        ({"item_id": "a\tb"}, "/item_id", "control_character"),
        ({"title": 5}, "/title", "wrong_type"),
        ({"title": "a\x00"}, "/title", "control_character"),
        ({"title": "x" * 2001}, "/title", "too_long"),
        ({"categories": "Drama"}, "/categories", "wrong_type"),
        ({"categories": ["Drama", None, 1.5]}, "/categories", "wrong_type"),
        ({"categories": [str(n) for n in range(201)]}, "/categories", "too_long"),
        ({"price": "3"}, "/price", "wrong_type"),
        ({"price": True}, "/price", "wrong_type"),
        ({"price": -0.01}, "/price", "out_of_range"),
        ({"price": float("nan")}, "/price", "not_finite"),
        ({"price": float("inf")}, "/price", "not_finite"),
        ({"price": 10**400}, "/price", "not_finite"),
        ({"hidden": 1}, "/hidden", "wrong_type"),
        ({"available_from": "2026-01-01T00:00:00"}, "/available_from", "naive_time"),
        ({"available_from": 1_767_225_600}, "/available_from", "ambiguous_time"),
        (
            {"available_from": "2026-01-02T00:00:00Z", "available_until": "2026-01-01T23:59:59Z"},
            "/available_until",
            "ends_before_it_starts",
        ),
        ({"attributes": ["a"]}, "/attributes", "wrong_type"),
        ({"attributes": {"a": float("nan")}}, "/attributes", "not_finite"),
        ({"attributes": {"a": [{"b": float("-inf")}]}}, "/attributes", "not_finite"),
        ({"attributes": {"a": "x" * 70_000}}, "/attributes", "too_long"),
        ({"colour": "red"}, "/colour", "unknown_field"),
    ],
)
def test_a_bad_field_is_named_with_its_reason(fields: dict[str, Any], pointer: str, reason: str) -> None:
    assert refused(fields) == (pointer, reason)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("/etc/passwd", "outside_folder"),
        ("../secret.png", "outside_folder"),
        ("posters/../../secret.png", "outside_folder"),
        ("../" * 12 + "etc/passwd", "outside_folder"),
        ("file:///etc/passwd", "bad_reference"),
        ("s3://bucket/a.png", "bad_reference"),
        ("data:image/png;base64,AAAA", "bad_reference"),
        ("C:\\a.png", "bad_reference"),
        ("posters\\a.png", "bad_reference"),
        ("a\x00.png", "control_character"),
    ],
)
def test_an_image_path_may_not_leave_the_folder(image: str, reason: str) -> None:
    assert refused({"image": image}) == ("/image", reason)


@pytest.mark.parametrize(
    "image", ["1.png", "posters/1.png", "./1.png", "a/../1.png", "..a/1.png", "http://x.org/1.png"]
)
def test_an_image_inside_the_folder_or_a_url_is_taken(image: str) -> None:
    assert validate_item({"item_id": "a", "image": image}, IN_A_FILE).image is not None


@pytest.mark.parametrize(
    ("root", "image", "allowed"),
    [
        ("..", "../posters/1.png", True),
        ("..", "../../posters/1.png", False),
        ("../..", "../../posters/1.png", True),
        ("../posters", "../posters/1.png", True),
        ("../posters", "../posters/../other/1.png", False),
        ("../posters", "../posters2/1.png", False),
        ("../posters", "here.png", True),
        ("..", "/etc/passwd", False),
    ],
)
def test_image_root_allows_one_folder_more(root: str, image: str, allowed: bool) -> None:
    rules = ItemRules(file_root=root)
    if allowed:
        assert validate_item({"item_id": "a", "image": image}, rules).image == image
    else:
        assert refused({"image": image}, rules) == ("/image", "outside_folder")


@pytest.mark.parametrize(
    ("image", "kept"),
    [
        ("posters/./1.png", "posters/1.png"),
        ("1.png", "1.png"),
        ("s3://bucket/shop/1.png", "s3://bucket/shop/1.png"),
        ("S3://bucket/shop/a/1.png", "S3://bucket/shop/a/1.png"),
        ("https://example.org/1.png", "https://example.org/1.png"),
    ],
)
def test_below_an_image_root_that_is_a_url_paths_and_urls_are_taken(image: str, kept: str) -> None:
    root = DataConfig(image_root="S3://bucket/shop/").image_root
    assert root == "s3://bucket/shop"
    assert validate_item({"item_id": "a", "image": image}, ItemRules(file_root=root)).image == kept


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("../1.png", "outside_folder"),
        ("/1.png", "outside_folder"),
        ("a/../../1.png", "outside_folder"),
        ("s3://bucket/shop", "outside_folder"),
        ("s3://bucket/shopping/1.png", "outside_folder"),
        ("s3://other/shop/1.png", "outside_folder"),
        ("s3://bucket/shop/../1.png", "outside_folder"),
        ("s3://bucket/Shop/1.png", "outside_folder"),
        ("gs://bucket/shop/1.png", "bad_reference"),
        ("file:///etc/passwd", "bad_reference"),
        ("C:\\a.png", "bad_reference"),
        ("a\\1.png", "bad_reference"),
    ],
)
def test_nothing_outside_an_image_root_that_is_a_url(image: str, reason: str) -> None:
    assert refused({"image": image}, ItemRules(file_root="s3://bucket/shop")) == ("/image", reason)


@pytest.mark.parametrize(
    ("root", "kept"),
    [
        ("s3://bucket/", "s3://bucket"),
        ("GS://bucket/a b", "gs://bucket/a b"),
        ("memory://", "memory://"),
        ("file:///srv/pictures/", "file:///srv/pictures"),
        ("https://cdn.example.org/p", "https://cdn.example.org/p"),
    ],
)
def test_an_image_root_may_be_a_url(root: str, kept: str) -> None:
    assert DataConfig(image_root=root).image_root == kept


@pytest.mark.parametrize(
    "root", ["s3://", "s3://bucket/../other", "simplecache::s3://bucket", "s3://key:secret@bucket/a", "https://x/?a=1"]
)
def test_an_image_root_that_cannot_be_one_is_refused(root: str) -> None:
    with pytest.raises(ValueError):
        DataConfig(image_root=root)


@pytest.mark.parametrize("reference", ["posters/1.png", "https://example.org/1.png"])
def test_over_http_an_image_is_neither_a_path_nor_a_url(reference: str) -> None:
    with pytest.raises(InvalidRequest, match="send the file's bytes") as caught:
        validate_item({"item_id": "a", "image": reference})
    assert caught.value.field == "/image"


def test_attributes_nested_beyond_reason_are_refused_and_do_not_crash() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert refused({"attributes": deep}) == ("/attributes", "wrong_type")


@pytest.mark.parametrize(
    "config", [{"timezone": "Mars/Olympus"}, {"time_format": "minutes"}, {"image_root": "/srv"}, {"colour": 1}]
)
def test_a_data_section_that_cannot_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        DataConfig(**config)


def test_the_table_has_a_column_for_every_field() -> None:
    assert tuple(ITEMS_SCHEMA.names) == (*ITEM_FIELDS, "line")


def test_categories_become_a_matrix_sorted_by_name() -> None:
    items = [CatalogItem("1", categories=("b", "a")), CatalogItem("2"), CatalogItem("3", categories=("b", "c"))]
    names, matrix = category_matrix(items_table(items, [1, 2, 3]))
    assert names == ("a", "b", "c")
    np.testing.assert_array_equal(matrix, [[True, True, False], [False, False, False], [False, True, True]])


def test_only_the_most_frequent_categories_are_kept() -> None:
    items = [CatalogItem("1", categories=("z", "a")), CatalogItem("2", categories=("z", "b"))]
    names, matrix = category_matrix(items_table(items, [1, 2]), max_names=2)
    assert names == ("a", "z")  # z twice; a and b once, and a comes first
    np.testing.assert_array_equal(matrix, [[True, True], [False, True]])


@pytest.mark.parametrize("table", [ITEMS_SCHEMA.empty_table(), items_table([CatalogItem("1")], [1])])
def test_no_categories_make_a_matrix_without_columns(table: pa.Table) -> None:
    names, matrix = category_matrix(table)
    assert names == ()
    assert matrix.shape == (len(table), 0)
