"""The item endpoint, and blocked tags over HTTP on every route that answers with items."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from recsys.item_objects import OBJECTS_SCHEMA, ItemObjects
from tests.serving.asking import ids, refused, soon
from tests.serving.conftest import OpenShop
from tests.serving.routes_of_items import ROUTES, asked, everybody_takes_everything, slate_of
from tests.serving.shop import Parts, Shop, shop
from tests.serving.world import Shelf
from tests.worlds.tagged_items import AT, said, tagged_release

BLOCKS = '[recommender.filter]\nblocked_tags = ["nsfw"]\n[surfaces.adult]\nblocked_tags = []\n'
ROWS = (
    said("a1", "beach", evidence='{"boxes": [[1, 2, 3, 4]]}'),
    said("a2", "nsfw"),
    said("a3", "nsfw", "unsure", 0.4),
    said("b0", "nsfw", "no", 0.0, by="human", head=None, model="ann", version=None),
)
KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("reader", "boss")}


def picture(text: str) -> str:
    return b64encode(f"PICTURE {text}".encode()).decode()


@pytest.fixture
def open_tagged(opened: OpenShop, tmp_path: Path) -> Any:
    def start(toml: str = BLOCKS, rows: Sequence[dict[str, Any]] = ROWS, **serving: Any) -> Shop:
        release = tagged_release(shop(), rows, tmp_path)
        return opened(Parts(toml, shelf=Shelf({"r1": release})), **serving)

    return start


def item(of: Shop, item_id: str, **parameters: Any) -> dict[str, Any]:
    response = of.get(f"/v1/items/{item_id}", **parameters)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_an_item_is_told_as_it_is_now(open_tagged: Any) -> None:
    here = open_tagged()
    here.post("/v1/items", item_id="a1", price=3.5, attributes={"colour": "green", "tags": ["sea"]})
    found = item(here, "a1")
    assert (found["title"], found["price"], found["categories"]) == ("Title of a1", 3.5, ["alpha"])
    assert found["attributes"] == {"colour": "green", "tags": ["sea"]}
    assert (found["release"], found["shown"], found["reasons"]) == ("r1", True, [])
    assert found["unjudged"] == ["text"]  # attributes are among an item's words
    beach, sea = found["tags"]
    assert beach == {
        "tag": "beach", "verdict": "yes", "confidence": pytest.approx(0.9), "by": "model", "head": "image",
        "model": "classifier", "version": "v1", "at": AT.isoformat().replace("+00:00", "Z"),
        "evidence": {"boxes": [[1, 2, 3, 4]]},
    }  # fmt: skip
    assert sea == {"tag": "sea", "verdict": "yes", "confidence": 1.0, "by": "catalogue"}
    assert [(tag["by"], tag["verdict"], tag["model"]) for tag in item(here, "b0")["tags"]] == [("human", "no", "ann")]


def test_an_id_that_a_path_cannot_hold_travels_in_the_query(open_tagged: Any) -> None:
    here = open_tagged()
    here.post("/v1/items", item_id="c/new ü?", title="gamma")
    found = here.get("/v1/item", item_id="c/new ü?").json()
    assert (found["item_id"], found["title"], found["shown"]) == ("c/new ü?", "gamma", True)
    assert refused(here.get("/v1/item"), 422)["field"] == "/item_id"
    assert refused(here.get("/v1/items/a1", colour="red"), 422)["field"] == "/colour"


def test_who_runs_the_shop_is_told_why_an_item_is_not_shown(open_tagged: Any) -> None:
    here = open_tagged()
    here.post("/v1/items", item_id="a4", hidden=True)
    here.post("/v1/items", item_id="a5", available_from="2999-01-01T00:00:00Z", attributes={"stock": 0})
    reply = here.post("/v1/items", item_id="a6", image_base64=picture("alpha")).json()
    unsure = "nobody can tell whether it has a blocked tag: nsfw"
    assert (reply["recommendable"], reply["reasons"]) == (False, [unsure])
    reasons = {item_id: item(here, item_id)["reasons"] for item_id in ("a2", "a3", "a4", "a5", "a6")}
    assert reasons == {
        "a2": ["it has a blocked tag: nsfw"],
        "a3": [unsure],
        "a4": ["hidden, or deleted"],
        "a5": ["available_from lies ahead", "it is out of stock"],
        "a6": [unsure],
    }
    assert item(here, "a6")["unjudged"] == ["image"]
    assert set(item(here, "a6")["tags_unsure"]) == {"beach", "nsfw"}
    assert item(here, "a2", surface="adult")["shown"]


def test_an_application_is_not_told_of_what_nobody_may_see(open_tagged: Any) -> None:
    api_keys = [
        {"name": name, "sha256": KEYS[name], "scopes": [scope]}
        for name, scope in (("reader", "read"), ("boss", "admin"))
    ]
    here = open_tagged(api_keys=api_keys)
    boss, reader = ({"X-API-Key": name} for name in ("boss", "reader"))
    for body in ({"item_id": "a4", "hidden": True}, {"item_id": "a5", "attributes": {"stock": 0}}):
        assert here.client.post("/v1/items", json=body, headers=boss).status_code == 200
    here.client.delete("/v1/items/a7", headers=boss)
    for item_id in ("a2", "a3", "a4", "a7", "nobody"):
        problem = refused(here.client.get(f"/v1/items/{item_id}", headers=reader), 404)
        assert (problem["detail"], problem["type"]) == ("there is no such item", "urn:recsys:problem:not-found")
        if item_id != "nobody":
            assert here.client.get(f"/v1/items/{item_id}", headers=boss).json()["shown"] is False
    assert here.client.get("/v1/items/a5", headers=reader).json()["reasons"] == ["it is out of stock"]
    assert here.client.get("/v1/items/a2?surface=adult", headers=reader).status_code == 200
    refused(here.client.get("/v1/items/a1"), 401)


def test_a_release_without_tags_tells_what_its_catalogue_says(opened: OpenShop) -> None:
    here = opened()
    here.post("/v1/items", item_id="a0", attributes={"tags": ["sea", 3]})
    found = item(here, "a0")
    assert found["tags"] == [{"tag": "sea", "verdict": "yes", "confidence": 1.0, "by": "catalogue"}]
    assert item(here, "a1")["tags"] == item(here, "a1")["tags_unsure"] == []
    refused(here.get("/v1/items/nobody"), 404)


def test_without_a_release_it_says_so(opened: OpenShop) -> None:
    here = opened(Parts(shelf=Shelf({}, pointer=None)))
    assert refused(here.get("/v1/items/a1"), 503)["type"] == "urn:recsys:problem:not-ready"


@pytest.mark.parametrize("route", ROUTES)
def test_a_blocked_tag_is_on_no_route_and_neither_is_a_picture_that_nobody_has_seen(
    open_tagged: Any, route: str
) -> None:
    here = open_tagged()
    everybody_takes_everything(here)
    assert here.post("/v1/items", item_id="b1", image_base64=picture("beta")).json()["recommendable"] is False
    assert here.post("/v1/items", item_id="b2", price=1.0).json()["recommendable"] is True
    here.post("/v1/items", item_id="new", title="gamma beta alpha", image_base64=picture("beta"))
    shown = set(slate_of(here, route, limit=100))
    assert shown
    assert not shown & {"a2", "a3", "b1", "new"}
    unblocked = set(slate_of(here, route, limit=100, surface="adult"))
    assert unblocked & {"a2", "a3", "b1"}


@pytest.mark.parametrize("route", ROUTES)
def test_where_no_head_covers_a_blocked_tag_nothing_is_shown_and_the_reply_says_so(
    open_tagged: Any, route: str
) -> None:
    here = open_tagged('[surfaces.strict]\nblocked_tags = ["weapon"]\n')
    everybody_takes_everything(here)
    reply = asked(here, route, surface="strict").json()
    assert (reply["items"], "filter" in reply["degraded"]) == ([], True)
    assert slate_of(here, route)


def test_a_release_that_cannot_judge_a_blocked_tag_does_not_take_over(open_tagged: Any) -> None:
    here = open_tagged()
    here.shelf.releases["r2"] = shop("r2")
    here.shelf.pointer = "r2"
    soon(lambda: here.service.releases.refused == "r2")
    assert here.post("/v1/recommendations").json()["release"] == "r1"


def test_items_like_an_object_are_asked_for_by_its_number(opened: OpenShop) -> None:
    release = shop()
    names = release.vocabulary.item_ids
    table = pa.table(
        {
            "item_id": names, "object": [0] * len(names), "tag": ["ball"] * len(names),
            "confidence": [0.5] * len(names),
            **{edge: [float(at)] * len(names) for at, edge in enumerate(("x0", "y0", "x1", "y1"))},
        },
        schema=OBJECTS_SCHEMA,
    )  # fmt: skip
    objects = ItemObjects.of_items(table, release.item_vectors, release.items["item_id"])
    here = opened(Parts(shelf=Shelf({"r1": replace(release, objects=objects)})))
    assert item(here, "b3")["objects"] == [{"number": 0, "tag": "ball", "confidence": 0.5, "box": [0, 1, 2, 3]}]
    first = here.get("/v1/items/b3/similar", object=0, limit=4).json()
    second = here.get("/v1/similar", item_id="b3", object=0, limit=4, page_token=first["next_page_token"]).json()
    shown = ids(first) + ids(second)
    assert len(set(shown)) == 8
    assert {each[0] for each in shown} == {"b"}
    assert "b3" not in shown
    for wrong in ("1", "-1", "one", "0000000000"):
        assert refused(here.get("/v1/items/b3/similar", object=wrong), 422)["field"] == "/object"
    refused(here.get("/v1/similar", item_id="b3", page_token=first["next_page_token"]), 422)


def test_an_address_of_two_methods_names_both_to_who_comes_with_another(opened: OpenShop) -> None:
    here = opened()
    response = here.client.request("PATCH", "/v1/items/a1")
    refused(response, 405)
    assert set(response.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD"}
    assert here.client.head("/v1/items/a1").status_code == 200
    assert here.client.delete("/v1/items/a1").status_code == 200
