from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.serving.asking import ids, refused
from tests.serving.conftest import Serve
from tests.serving.world import Shelf


def test_similar_items_are_of_the_same_family(client: TestClient) -> None:
    reply = client.get("/v1/items/b4/similar?limit=9").json()
    assert reply["recommendation_id"]
    assert sorted(ids(reply)) == [f"b{number}" for number in range(10) if number != 4]
    values = [item["value"] for item in reply["items"]]
    assert values == sorted(values, reverse=True)


def test_an_id_that_a_path_cannot_hold_travels_in_the_query(client: TestClient) -> None:
    client.post("/v1/items", json={"item_id": "c/new ü?", "title": "gamma"})
    reply = client.get("/v1/similar", params={"item_id": "c/new ü?", "limit": 3}).json()
    assert all(item_id.startswith("c") for item_id in ids(reply))


def test_an_unknown_item_is_named_and_no_error(client: TestClient) -> None:
    reply = client.get("/v1/items/nothing/similar").json()
    assert (reply["items"], reply["missing_ids"]) == ([], ["nothing"])


def test_a_hidden_item_is_like_nothing(client: TestClient) -> None:
    client.post("/v1/items", json={"item_id": "b5", "hidden": True})
    assert "b5" not in ids(client.get("/v1/items/b4/similar?limit=500").json())


def test_without_a_release_it_says_so(serve: Serve, shelf: Shelf) -> None:
    shelf.pointer = None
    reply = serve().get("/v1/items/b4/similar").json()
    assert (reply["items"], reply["degraded"]) == ([], ["release"])


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/similar", "/item_id"),
        ("/v1/similar?item_id=", "/item_id"),
        (f"/v1/similar?item_id={'x' * 257}", "/item_id"),
        ("/v1/similar?item_id=a1&limit=0", "/limit"),
        ("/v1/similar?item_id=a1&limit=501", "/limit"),
        ("/v1/similar?item_id=a1&limit=ten", "/limit"),
        ("/v1/similar?item_id=a1&limit=-1", "/limit"),
        ("/v1/similar?item_id=a1&limit=²", "/limit"),
        (f"/v1/similar?item_id=a1&limit={'9' * 5000}", "/limit"),
        ("/v1/similar?item_id=a1&colour=red", "/colour"),
        ("/v1/similar?item_id=%00", "/item_id"),
    ],
)
def test_a_wrong_parameter_is_named(client: TestClient, path: str, field: str) -> None:
    assert refused(client.get(path), 422)["field"] == field


@pytest.mark.parametrize("limit", ["000000500999", "000000001" + "0" * 5000, "9" * 5000, "²", " 5", "+5", "5_0"])
def test_a_limit_that_only_begins_like_one_is_refused(client: TestClient, limit: str) -> None:
    refused(client.get("/v1/similar", params={"item_id": "b4", "limit": limit}), 422)
