"""Many items in one body, and items that are taken away."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recsys.storage.redis_server import PrivateRedis
from recsys.storage.urls import open_store
from tests.serving.asking import event, ids, recommend, refused, send, soon
from tests.serving.conftest import OpenShop
from tests.serving.routes_of_items import EVERYTHING, ROUTES, everybody_takes_everything, slate_of
from tests.serving.shop import Parts, Shop, open_shop

NDJSON = {"content-type": "application/x-ndjson"}
TITLE_GAMMA = {"item_id": "new", "title": "gamma"}


def posted(shop: Shop, *lines: Any, end: str = "\n") -> Any:
    """The lines as they are where they are text, else as JSON."""
    body = end.join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return shop.client.post("/v1/items:batch", content=body.encode("utf-8", "surrogatepass"), headers=NDJSON)


def batch(shop: Shop, *lines: Any, end: str = "\n") -> dict[str, Any]:
    response = posted(shop, *lines, end=end)
    assert response.status_code == 200, response.text
    return dict(response.json())


def statuses(reply: dict[str, Any]) -> list[tuple[int, str]]:
    return [(each["line"], each["status"]) for each in reply["statuses"]]


def gamma_slate(shop: Shop) -> list[str]:
    return ids(recommend(shop.client, history=[{"item_id": "c8"}, {"item_id": "c9"}], limit=12))


def picture(words: str) -> str:
    return base64.b64encode(f"PICTURE of {words}".encode()).decode()


def test_good_lines_are_written_and_bad_ones_named_each_in_its_place(shop: Shop) -> None:
    reply = batch(
        shop,
        TITLE_GAMMA,
        '{"item_id": "cut", "title": ',
        {"item_id": "odd", "colour": "red"},
        {"item_id": "cheap", "price": -1},
        {"item_id": "a0", "delete": True},
        {"item_id": "a1", "delete": True, "title": "both"},
        {"title": "nameless"},
        {"item_id": "x", "image_base64": "%%%"},
        {"item_id": "x", "image_base64": base64.b64encode(b"no picture").decode()},
        "[]",
        "null",
        '{"item_id": "surrogate \ud800"}',
        {"item_id": "also", "hidden": False},
    )
    told = [each["status"] for each in reply["statuses"]]
    assert told == ["accepted", *["rejected"] * 3, "deleted", *["rejected"] * 7, "accepted"]
    assert (reply["accepted"], reply["deleted"], reply["rejected"]) == (2, 1, 10)
    rejected = [each for each in reply["statuses"] if each["status"] == "rejected"]
    assert all(each["reason"] for each in rejected)
    fields = {each["line"]: each.get("field") for each in rejected}
    assert (fields[2], fields[3], fields[5], fields[7], fields[8]) == (
        "/colour", "/price", "/delete", "/image_base64", "/image_base64",
    )  # fmt: skip
    assert "new" in gamma_slate(shop)
    assert "a0" not in ids(recommend(shop.client, limit=500))
    assert "a1" in ids(recommend(shop.client, limit=500))


def test_empty_lines_and_carriage_returns_are_no_lines_but_count(shop: Shop) -> None:
    reply = batch(shop, "", TITLE_GAMMA, "", "  ", {"item_id": "b0", "price": 3}, "", end="\r\n")
    assert statuses(reply) == [(1, "accepted"), (4, "accepted")]
    assert statuses(batch(shop, "", "\n", "\r")) == []
    assert shop.client.post("/v1/items:batch", content=b"", headers=NDJSON).json()["statuses"] == []


def test_later_lines_of_an_item_build_on_the_earlier_ones(shop: Shop) -> None:
    reply = batch(shop, {"item_id": "new", "price": 3}, TITLE_GAMMA, {"item_id": "new", "price": 4})
    assert reply["accepted"] == 3
    (item,) = shop.store.items_since(0)[1]
    assert item.fields == {"item_id": "new", "title": "gamma", "price": 4.0}
    assert set(item.vectors) == {"text"}
    assert "new" in gamma_slate(shop)


def test_the_words_of_an_item_are_those_of_all_lines_up_to_it(shop: Shop) -> None:
    shop.post("/v1/items", item_id="new", title="alpha")
    batch(shop, TITLE_GAMMA, {"item_id": "new", "price": 4})
    assert "new" in gamma_slate(shop)
    batch(
        shop,
        {"item_id": "new", "title": None},
        {"item_id": "new", "description": "beta", "image_base64": picture("beta")},
    )
    assert "new" not in gamma_slate(shop)


def test_fields_of_two_lines_must_agree(shop: Shop) -> None:
    reply = batch(
        shop,
        {"item_id": "a0", "available_from": "2030-01-01T00:00:00Z"},
        {"item_id": "a0", "available_until": "2020-01-01T00:00:00Z"},
    )
    assert [each["status"] for each in reply["statuses"]] == ["accepted", "rejected"]
    assert reply["statuses"][1]["field"] == "/available_until"


def test_an_item_that_is_deleted_and_written_in_one_batch_has_nothing_of_the_old(shop: Shop) -> None:
    shop.post("/v1/items", item_id="new", title="gamma", price=3, image_base64=picture("gamma"))
    reply = batch(shop, {"item_id": "new", "delete": True}, {"item_id": "new", "description": "alpha"})
    assert statuses(reply) == [(0, "deleted"), (1, "accepted")]
    (item,) = shop.store.items_since(0)[1]
    assert item.fields == {"item_id": "new", "description": "alpha"}
    assert item.vectors.keys() == {"text"}
    assert item.vectors["text"][2] == 0  # nothing of gamma
    assert "new" not in gamma_slate(shop)
    assert "new" in ids(recommend(shop.client, limit=500))


def test_an_item_that_is_written_and_deleted_in_one_batch_is_gone(shop: Shop) -> None:
    reply = batch(shop, TITLE_GAMMA, {"item_id": "new", "delete": True})
    assert statuses(reply) == [(0, "accepted"), (1, "deleted")]
    assert "new" not in ids(recommend(shop.client, limit=500))


def test_a_thousand_lines_are_a_batch_and_one_more_is_too_many(shop: Shop) -> None:
    lines = [{"item_id": f"item {number}", "price": number} for number in range(1000)]
    assert batch(shop, *lines)["accepted"] == 1000
    refused(posted(shop, *lines, lines[0]), 413)
    assert shop.store.items_since(0)[0] == 1000


def test_a_batch_says_that_it_is_ndjson(shop: Shop) -> None:
    for media_type in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        response = shop.client.post("/v1/items:batch", content=b"{}", headers={"content-type": media_type})
        refused(response, 415)
    refused(shop.client.post("/v1/items:batch", content=b"{}"), 415)
    refused(shop.client.post("/v1/items:batch", content=b"{}", headers={**NDJSON, "content-encoding": "gzip"}), 415)
    named = {"content-type": "application/x-ndjson; charset=utf-8"}
    assert shop.client.post("/v1/items:batch", content=b'{"item_id": "x"}', headers=named).status_code == 200


def test_a_batch_over_the_limit_in_bytes_is_refused_whole(opened: OpenShop) -> None:
    running = opened(limits={"max_items_bytes": 2048})
    refused(posted(running, *[{"item_id": "x", "title": "y" * 500}] * 6), 413)
    assert running.store.items_since(0) == (0, ())


def test_a_batch_while_the_store_is_down_is_not_acknowledged(shop: Shop) -> None:
    shop.store.up = False
    response = posted(shop, TITLE_GAMMA)
    refused(response, 503)
    assert response.headers["retry-after"]
    shop.store.up = True
    assert batch(shop, TITLE_GAMMA)["accepted"] == 1


@pytest.mark.parametrize("item_id", ["c3", "new"])
@pytest.mark.parametrize("how", ["path", "body", "line"])
def test_a_deleted_item_is_gone_from_every_route_at_once(shop: Shop, item_id: str, how: str) -> None:
    shop.post("/v1/items", item_id="new", title="gamma alpha beta", image_base64=picture("gamma"))
    everybody_takes_everything(shop, "new")
    given = [*EVERYTHING, "new"]
    for route in ROUTES:
        if route not in ("popular", "search_title") or item_id != "new":
            asks = {"item_ids": given} if route == "rank" else {}
            assert item_id in slate_of(shop, route, limit=500, **asks), route
    match how:
        case "path":
            reply = shop.client.delete(f"/v1/items/{item_id}").json()
        case "body":
            reply = shop.post("/v1/items:delete", item_ids=[item_id, item_id]).json()
        case _:
            reply = batch(shop, {"item_id": item_id, "delete": True})
    assert reply["deleted"] == 1
    for route in ROUTES:
        asks = {"item_ids": given} if route == "rank" else {}
        assert item_id not in slate_of(shop, route, limit=500, **asks), route


def test_a_deleted_item_of_the_release_comes_back_with_what_is_sent_over_what_the_catalogue_says(shop: Shop) -> None:
    shop.post("/v1/items", item_id="c3", price=99, attributes={"year": 1900}, hidden=True)
    shop.client.delete("/v1/items/c3")
    shop.post("/v1/items", item_id="c3", title="Again")
    assert slate_of(shop, "recommendations", filter="price = 4 and attributes.year = 2003") != []
    assert "c3" in slate_of(shop, "recommendations", filter='title = "Again"', strict_filtering=True)
    assert slate_of(shop, "recommendations", filter="price = 99", strict_filtering=True) == []


def test_a_deleted_new_item_comes_back_with_what_is_sent_alone(shop: Shop) -> None:
    shop.post("/v1/items", item_id="new", title="gamma", price=99, image_base64=picture("gamma"))
    shop.client.delete("/v1/items/new")
    assert send(shop.client, event("u", "new"))["missing_ids"] == ["new"]
    reply = shop.post("/v1/items", item_id="new", description="alpha").json()
    assert reply["modalities"] == ["text"]
    assert "new" not in gamma_slate(shop)
    assert slate_of(shop, "recommendations", filter="price = 99", strict_filtering=True) == []


def test_what_is_deleted_and_was_never_there_is_named_and_stays_away(shop: Shop) -> None:
    reply = shop.post("/v1/items:delete", item_ids=["nowhere", "a0", "nowhere"]).json()
    assert (reply["deleted"], reply["missing_ids"]) == (2, ["nowhere"])
    assert recommend(shop.client, exclude_item_ids=["nowhere"])["missing_ids"] == ["nowhere"]


def test_a_deletion_outlives_a_change_of_release(shop: Shop) -> None:
    shop.client.delete("/v1/items/a0")
    shop.shelf.releases["r2"] = shop.shelf.releases["r1"]
    shop.shelf.pointer = "r2"
    assert shop.service.releases.reload()
    assert "a0" not in ids(recommend(shop.client, limit=500))


def test_a_deletion_while_the_store_is_down_is_not_acknowledged(shop: Shop) -> None:
    shop.store.up = False
    refused(shop.client.delete("/v1/items/a0"), 503)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"item_ids": []}, "/item_ids"),
        ({"item_ids": ["a\x00"]}, "/item_ids"),
        ({"item_ids": [1]}, "/item_ids/0"),
        ({}, ""),
    ],
)
def test_a_wrong_deletion_is_refused_by_name(shop: Shop, body: dict[str, Any], field: str) -> None:
    assert refused(shop.post("/v1/items:delete", **body), 422).get("field", "") == field
    assert shop.store.items_since(0) == (0, ())


@contextmanager
def two_workers(url: str) -> Iterator[tuple[Shop, Shop]]:
    """Two services, each with its own connection to one store."""
    mine, others = open_store(url), open_store(url)
    with open_shop(Parts(store=mine)) as first, open_shop(Parts(store=others)) as second:
        yield first, second


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield f"{server.url}?namespace=items"


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_another_worker_shows_and_hides_items_within_two_seconds(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/store.db" if kind == "sqlite" else request.getfixturevalue("redis_url")
    with two_workers(url) as (mine, other):
        batch(mine, TITLE_GAMMA, {"item_id": "a0", "price": 777})
        soon(lambda: "new" in gamma_slate(other), within_s=2)
        assert slate_of(other, "recommendations", filter="price = 777") == ["a0"]
        mine.post("/v1/items:delete", item_ids=["new", "a0"])
        soon(lambda: "new" not in gamma_slate(other), within_s=2)
        assert "a0" not in ids(recommend(other.client, limit=500))
        other.post("/v1/items", item_id="new", title="alpha")
        soon(lambda: "new" in slate_of(mine, "recommendations", limit=500), within_s=2)
        assert "new" not in gamma_slate(mine)
