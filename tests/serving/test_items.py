from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys.errors import StoreUnavailable
from tests.serving.asking import event, ids, recommend, refused, send, soon
from tests.serving.conftest import Serve
from tests.serving.world import FamilyNames, FlakyStore, Shelf, release


def upsert(client: TestClient, item_id: str, **fields: Any) -> dict[str, Any]:
    response = client.post("/v1/items", json={"item_id": item_id, **fields})
    assert response.status_code == 200, response.text
    return dict(response.json())


def picture(words: str) -> str:
    return base64.b64encode(f"PICTURE of {words}".encode()).decode()


def gamma_slate(client: TestClient) -> list[str]:
    """What a lover of gamma items gets."""
    return ids(recommend(client, history=[{"item_id": "c8"}, {"item_id": "c9"}], limit=12))


def test_a_new_item_is_recommended_from_its_words_at_once(client: TestClient) -> None:
    reply = upsert(client, "new", title="A gamma story")
    assert reply == {"item_id": "new", "version": 1, "modalities": ["text"], "recommendable": True, "reasons": []}
    assert "new" in gamma_slate(client)


def test_a_new_item_is_recommended_from_its_picture_alone(client: TestClient) -> None:
    assert upsert(client, "new", image_base64=picture("gamma"))["modalities"] == ["image"]
    assert "new" in gamma_slate(client)


def test_a_new_item_can_be_clicked_and_then_leads_on(client: TestClient) -> None:
    upsert(client, "new", title="gamma")
    assert send(client, event("u", "new"))["missing_ids"] == []
    reply = recommend(client, user_id="u", limit=5)
    assert ids(reply)[0].startswith("c")
    assert "new" not in ids(reply)


def test_without_content_an_item_is_written_and_the_reply_says_what_is_missing(client: TestClient) -> None:
    reply = upsert(client, "new", price=3)
    assert not reply["recommendable"]
    assert "title" in reply["reasons"][0]


def test_a_hidden_item_never_returns_and_may_come_back(client: TestClient) -> None:
    assert upsert(client, "a0", hidden=True)["reasons"] == ["hidden"]
    assert "a0" not in ids(recommend(client, limit=500))
    upsert(client, "a0", hidden=False)
    assert "a0" in ids(recommend(client, limit=500))


def test_availability_holds_from_and_until(client: TestClient) -> None:
    upsert(client, "a0", available_from="2999-01-01T00:00:00Z")
    upsert(client, "a1", available_until="2020-01-01T00:00:00Z")
    assert not {"a0", "a1"} & set(ids(recommend(client, limit=500)))
    upsert(client, "a0", available_from=None)
    assert "a0" in ids(recommend(client, limit=500))


def test_fields_left_out_stay_what_they_were(client: TestClient, store: FlakyStore) -> None:
    upsert(client, "new", title="gamma", image_base64=picture("gamma"), price=3, attributes={"year": 1999})
    reply = upsert(client, "new", price=4)
    assert reply["modalities"] == ["image", "text"]
    (item,) = store.items_since(1)[1]
    assert (item.fields["title"], item.fields["price"]) == ("gamma", 4.0)
    assert item.fields["attributes"] == {"year": 1999}


def test_only_what_was_sent_is_kept_so_that_a_newer_catalogue_changes_the_rest(
    client: TestClient, store: FlakyStore
) -> None:
    upsert(client, "a0", price=7)
    upsert(client, "a0", hidden=True)
    upsert(client, "a0", price=None)
    assert store.items_since(0)[1][0].fields == {"item_id": "a0", "price": None, "hidden": True}


def test_the_same_words_are_encoded_once(client: TestClient, shelf: Shelf) -> None:
    encoder: Any = shelf.load("r1").content_encoder
    assert isinstance(encoder, FamilyNames)
    upsert(client, "new", title="gamma")
    upsert(client, "new", price=4)
    assert encoder.n_calls == 1


def test_a_new_item_is_put_into_the_words_that_the_release_was_made_with(client: TestClient, shelf: Shelf) -> None:
    upsert(client, "by-title", title="gamma", attributes={"mood": "alpha"})
    assert "by-title" in gamma_slate(client)  # a release from before templates knows no attributes
    r2 = release("r2")
    shelf.releases["r2"] = replace(r2, schema=r2.schema.model_copy(update={"text_template": "{attributes.mood}!"}))
    shelf.pointer = "r2"
    soon(lambda: recommend(client)["release"] == "r2")
    upsert(client, "by-mood", title="alpha", attributes={"mood": "gamma"})
    assert "by-mood" in gamma_slate(client)
    assert upsert(client, "no-mood", title="gamma")["modalities"] == []


def test_another_worker_sees_a_new_item_by_polling(serve: Serve) -> None:
    mine, other = serve(), serve()
    upsert(mine, "new", title="gamma")
    soon(lambda: "new" in gamma_slate(other), within_s=2)


def test_a_live_item_outlives_a_change_of_release(client: TestClient, shelf: Shelf) -> None:
    upsert(client, "new", title="gamma")
    shelf.releases["r2"] = release("r2")
    shelf.pointer = "r2"
    soon(lambda: recommend(client)["release"] == "r2")
    assert "new" in gamma_slate(client)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": "https://example.org/a.jpg"}, "/image"),
        ({"image": "../../etc/passwd"}, "/image"),
        ({"image_base64": "%%%"}, "/image_base64"),
        ({"image_base64": base64.b64encode(b"not a picture").decode()}, "/image_base64"),
        ({"price": -1}, "/price"),
        ({"price": "3"}, "/price"),
        ({"categories": "Comedy"}, "/categories"),
        ({"available_from": "2020-01-01"}, "/available_from"),
        ({"available_from": "2021-01-01T00:00:00Z", "available_until": "2020-01-01T00:00:00Z"}, "/available_until"),
        ({"colour": "red"}, "/colour"),
        ({"item_id": "x" * 257}, "/item_id"),
        ({"title": "x" * 3000}, "/title"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_written(
    client: TestClient, store: FlakyStore, fields: dict[str, Any], field: str
) -> None:
    assert refused(client.post("/v1/items", json={"item_id": "new", **fields}), 422)["field"] == field
    assert store.items_since(0) == (0, ())


def test_a_picture_over_the_limit_is_refused(serve: Serve) -> None:
    client = serve(limits={"max_image_bytes": 2048})
    body = {"item_id": "new", "image_base64": picture("x" * 3000)}
    assert "2048" in refused(client.post("/v1/items", json=body), 422)["detail"]


def test_a_store_that_is_down_is_said_and_may_be_tried_again(client: TestClient, store: FlakyStore) -> None:
    store.up = False
    response = client.post("/v1/items", json={"item_id": "new", "title": "gamma"})
    refused(response, 503)
    assert response.headers["retry-after"]
    store.up = True
    upsert(client, "new", title="gamma")
    assert "new" in gamma_slate(client)


def test_items_written_before_any_release_are_there_with_the_first(
    serve: Serve, shelf: Shelf, store: FlakyStore
) -> None:
    shelf.pointer = None
    client = serve()
    upsert(client, "a0", title="Kept", price=3)
    assert upsert(client, "a0", hidden=True)["reasons"][0] == "there is no release yet"
    assert store.items_since(0)[1][0].fields["title"] == "Kept"
    shelf.pointer = "r1"
    soon(lambda: recommend(client)["release"] == "r1")
    assert "a0" not in ids(recommend(client, limit=500))


def test_one_more_new_item_projects_that_one_alone(client: TestClient, shelf: Shelf) -> None:
    tower: Any = shelf.load("r1").item_encoder
    for number in range(5):
        upsert(client, f"new-{number}", title="gamma")
    assert tower.n_calls == 5
    upsert(client, "new-2", title="alpha")
    assert tower.n_calls == 6
    assert "new-2" not in gamma_slate(client)


def test_attributes_nested_too_deep_are_refused(client: TestClient) -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    refused(client.post("/v1/items", json={"item_id": "new", "title": "gamma", "attributes": deep}), 422)


def test_an_item_that_was_written_but_not_read_back_is_not_said_to_be_shown(
    client: TestClient, store: FlakyStore
) -> None:
    def hangs(version: int) -> Any:
        raise StoreUnavailable("a record in the store cannot be read")

    store.items_since = hangs  # type: ignore[method-assign]
    reply = upsert(client, "new", title="gamma")
    assert not reply["recommendable"]
    assert "read back" in reply["reasons"][0]
