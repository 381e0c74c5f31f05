"""Search, refinement, ranking and lists over HTTP."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.errors import CorruptArtifact, EncoderUnavailable, Overloaded
from serving.service import Service
from tests.serving.asking import event, ids, recommend, refused, send
from tests.serving.conftest import OpenShop
from tests.serving.routes_of_items import EVERYTHING, everybody_takes_everything
from tests.serving.shop import Parts, Shop, open_shop, shop, without_encoders
from tests.serving.world import Shelf
from tests.worlds.families import axis_of

GAMMA = [float(number) for number in axis_of("gamma")]


def picture(words: str) -> str:
    return base64.b64encode(f"PICTURE of {words}".encode()).decode()


def answered(shop: Shop, path: str, **body: Any) -> dict[str, Any]:
    response = shop.post(path, **body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def searched(shop: Shop, **body: Any) -> list[str]:
    return ids(answered(shop, "/v1/search", **body))


class NoEncoder:
    """Content encoding that is down, full or broken."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def encode_text(self, text: str, *, release_id: str, timeout_s: float) -> NDArray[np.float32]:
        raise self._error

    async def encode_image(self, data: bytes, *, release_id: str, timeout_s: float) -> NDArray[np.float32]:
        raise self._error

    async def encode_audio(self, data: bytes, *, release_id: str, timeout_s: float) -> NDArray[np.float32]:
        raise self._error

    def close(self) -> None:
        """Nothing is held."""


DOWN = (EncoderUnavailable("the encoder is away"), Overloaded("full"), CorruptArtifact("/srv/text.onnx is damaged"))


def encoders_are(error: Exception) -> Callable[[Service], Service]:
    return lambda service: replace(service, content=NoEncoder(error))


@pytest.fixture(scope="module")
def still() -> Iterator[Shop]:
    """A shop that is asked and never changed."""
    with open_shop() as running:
        yield running


@pytest.mark.parametrize(
    "way",
    [
        {"text": "a gamma story"},
        {"image_base64": picture("gamma")},
        {"item_id": "c4"},
        {"vector": GAMMA},
        {"vector": GAMMA, "modality": "image"},
        {"vector": GAMMA, "modality": "item"},
        {"vector": [1e38 * number for number in GAMMA]},
        {"vector": [1e-300 * number for number in GAMMA], "modality": "item"},
    ],
)
def test_every_way_to_search_finds_the_family(still: Shop, way: dict[str, Any]) -> None:
    reply = answered(still, "/v1/search", limit=9, **way)
    assert all(item_id.startswith("c") for item_id in ids(reply))
    assert len(set(ids(reply))) == 9
    assert reply["degraded"] == []
    values = [item["value"] for item in reply["items"]]
    assert values == sorted(values, reverse=True)
    assert 0.9 < values[0] <= 1.0001


def test_an_item_that_is_searched_with_is_not_among_what_is_found(shop: Shop) -> None:
    assert "c4" not in searched(shop, item_id="c4", limit=30)


def test_a_new_item_is_found_at_once_and_a_deleted_one_never_again(shop: Shop) -> None:
    shop.post("/v1/items", item_id="new", title="gamma")
    assert "new" in searched(shop, text="gamma", limit=11)
    assert "new" in searched(shop, item_id="c1", limit=11)
    shop.client.delete("/v1/items/new")
    assert "new" not in searched(shop, text="gamma", limit=500)
    assert shop.post("/v1/search", item_id="new").json()["missing_ids"] == ["new"]


def test_what_the_user_has_seen_is_found_again_but_not_what_they_blocked(shop: Shop) -> None:
    send(shop.client, event("u", "c1"))
    shop.post("/v1/users:block", user_id="u", item_ids=["c2"])
    found = searched(shop, text="gamma", user_id="u", limit=30)
    assert "c1" in found
    assert "c2" not in found


def test_the_more_it_is_personalised_the_more_it_is_of_the_person(shop: Shop) -> None:
    history = [{"item_id": "a1"}, {"item_id": "a2"}]
    assert searched(shop, text="gamma", history=history, personalise=0, limit=5) == searched(
        shop, text="gamma", limit=5
    )
    assert all(i.startswith("c") for i in searched(shop, text="gamma", history=history, limit=5))
    assert all(i.startswith("a") for i in searched(shop, text="gamma", history=history, personalise=1, limit=5))
    send(shop.client, event("u", "a1"), event("u", "a2"))
    assert all(i.startswith("a") for i in searched(shop, text="gamma", user_id="u", personalise=1, limit=5))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"text": "gamma", "item_id": "a1"}, ""),
        ({"text": "gamma", "vector": GAMMA}, ""),
        ({"image_base64": picture("x"), "item_id": "a1", "text": "x", "vector": GAMMA}, ""),
        ({"text": ""}, "/text"),
        ({"text": "x" * 2001}, "/text"),
        ({"text": 7}, "/text"),
        ({"item_id": ""}, "/item_id"),
        ({"vector": []}, "/vector"),
        ({"vector": GAMMA[:-1]}, "/vector"),
        ({"vector": [0.0] * 8}, "/vector"),
        ({"vector": [*GAMMA[:-1], "1"]}, "/vector/7"),
        ({"vector": GAMMA, "modality": "smell"}, "/modality"),
        ({"image_base64": "%%%"}, "/image_base64"),
        ({"image_base64": base64.b64encode(b"no picture").decode()}, "/image_base64"),
        ({"image_base64": ""}, "/image_base64"),
        ({"text": "gamma", "personalise": 1.5}, "/personalise"),
        ({"text": "gamma", "personalise": -0.1}, "/personalise"),
        ({"text": "gamma", "weight": 0.5}, "/weight"),
    ],
)
def test_a_wrong_search_is_refused_by_name(still: Shop, body: dict[str, Any], field: str) -> None:
    assert refused(still.post("/v1/search", **body), 422).get("field", "") == field


@pytest.mark.parametrize(
    "number", ["1e400", "NaN", "Infinity", "-Infinity"], ids=["too large", "nan", "infinite", "minus infinite"]
)
def test_a_vector_of_what_is_no_number_is_refused(still: Shop, number: str) -> None:
    body = '{"vector": [' + ", ".join([number] * 8) + "]}"
    response = still.client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    refused(response, 422)


@pytest.mark.parametrize("path", ["/v1/search", "/v1/refine"])
def test_an_unknown_item_is_named_and_nothing_is_found(shop: Shop, path: str) -> None:
    more = {"text": "cheaper"} if path == "/v1/refine" else {}
    body = {"history": [{"item_id": "elsewhere"}], "exclude_item_ids": ["nowhere", "gone", "a1"], **more}
    reply = answered(shop, path, item_id="nowhere", **body)
    assert (reply["items"], reply["next_page_token"]) == ([], None)
    assert sorted(reply["missing_ids"]) == ["elsewhere", "gone", "nowhere"]
    assert reply["release"] == "r1"


@pytest.mark.parametrize("error", DOWN, ids=["away", "full", "broken"])
def test_while_nothing_can_be_encoded_titles_are_searched(opened: OpenShop, error: Exception) -> None:
    running = opened(Parts(change=encoders_are(error)))
    reply = answered(running, "/v1/search", text="TITLE b3")
    assert (ids(reply)[0], reply["degraded"]) == ("b3", ["encode"])
    either = answered(running, "/v1/search", text="b3 nothing-like-it", limit=30)
    assert ids(either) == ["b3"]
    assert answered(running, "/v1/search", text="quite unlike anything")["items"] == []
    assert searched(running, item_id="c4", limit=3)[0].startswith("c")
    hostile = [
        '"',
        "\\",
        'b3" or price > 0 or title contains "',
        "\x00\x1f\n b3",
        "影片 " * 600,
        "x" * 2000,
        "\\" * 2000,
    ]
    for text in hostile:
        assert running.post("/v1/search", text=text).status_code == 200


def test_the_titles_that_are_searched_are_those_of_now(opened: OpenShop) -> None:
    running = opened(Parts(change=encoders_are(DOWN[0])))
    running.post("/v1/items", item_id="a4", title="A lighthouse")
    assert searched(running, text="Lighthouse") == ["a4"]
    running.post("/v1/items", item_id="a4", hidden=True)
    assert searched(running, text="Lighthouse") == []


@pytest.mark.parametrize("error", DOWN, ids=["away", "full", "broken"])
def test_a_picture_has_nothing_to_fall_back_to_and_may_be_sent_again(opened: OpenShop, error: Exception) -> None:
    running = opened(Parts(change=encoders_are(error)))
    response = running.post("/v1/search", image_base64=picture("gamma"))
    problem = refused(response, 429 if isinstance(error, Overloaded) else 503)
    assert response.headers["retry-after"]
    assert "/srv" not in problem["detail"]


@pytest.mark.parametrize("error", DOWN, ids=["away", "full", "broken"])
def test_while_nothing_can_be_encoded_refining_goes_by_the_item_and_the_filter(
    opened: OpenShop, error: Exception
) -> None:
    running = opened(Parts(change=encoders_are(error)))
    reply = answered(running, "/v1/refine", item_id="c5", text="redder and cheaper", limit=5)
    assert (reply["degraded"], reply["filter"]) == (["encode"], "price < 6.0")
    assert sorted(ids(reply)) == ["c0", "c1", "c2", "c3", "c4"]


def test_a_release_without_encoders_searches_titles_and_takes_no_picture(opened: OpenShop) -> None:
    running = opened(Parts(shelf=Shelf({"r1": without_encoders(shop())})))
    reply = answered(running, "/v1/search", text="title of a2")
    assert (ids(reply), reply["degraded"]) == (["a2"], ["encode"])
    assert refused(running.post("/v1/search", image_base64=picture("gamma")), 422)["field"] == "/image_base64"
    assert searched(running, vector=GAMMA, limit=1)[0].startswith("c")
    assert answered(running, "/v1/refine", item_id="b2", text="gamma")["degraded"] == ["encode"]


def test_without_a_release_a_search_is_empty_and_says_so(opened: OpenShop) -> None:
    shelf = Shelf({"r1": shop()}, pointer=None)
    running = opened(Parts(shelf=shelf))
    for body in ({"text": "x"}, {"item_id": "x"}, {"vector": [1.0]}, {"image_base64": picture("x")}):
        reply = answered(running, "/v1/search", **body)
        assert (reply["items"], reply["degraded"]) == ([], ["release"])
    assert answered(running, "/v1/refine", item_id="x", text="cheaper")["degraded"] == ["release"]


def test_cheaper_and_newer_are_read_as_a_filter_that_the_reply_shows(shop: Shop) -> None:
    reply = answered(shop, "/v1/refine", item_id="a5", text="cheaper", limit=30)
    assert reply["filter"] == "price < 6.0"
    assert {int(item_id[1:]) for item_id in ids(reply)} == {0, 1, 2, 3, 4}
    both = answered(shop, "/v1/refine", item_id="a5", text="Newer but pricier", filter="price <= 8", limit=30)
    assert both["filter"] == "price > 6.0 and attributes.year > 2005.0"
    assert {int(item_id[1:]) for item_id in ids(both)} == {6, 7}


def test_what_an_item_does_not_have_stays_among_the_words(shop: Shop) -> None:
    shop.post("/v1/items", item_id="a5", price=None)
    assert "filter" not in answered(shop, "/v1/refine", item_id="a5", text="cheaper gamma")


def test_where_nothing_is_cheaper_it_is_said_and_others_are_shown(shop: Shop) -> None:
    reply = answered(shop, "/v1/refine", item_id="a0", text="cheaper")
    assert "filter" in reply["degraded"]
    assert reply["items"]
    strict = answered(shop, "/v1/refine", item_id="a0", text="cheaper", strict_filtering=True)
    assert strict["items"] == []


def test_the_weight_moves_from_the_item_to_the_words(shop: Shop) -> None:
    def first(weight: float) -> list[str]:
        return ids(answered(shop, "/v1/refine", item_id="a1", text="gamma", weight=weight, limit=5))

    assert all(item_id.startswith("a") for item_id in first(0))
    assert all(item_id.startswith("c") for item_id in first(1))
    assert "a1" not in [*first(0), *first(0.5), *first(1)]
    assert first(0) == ids(answered(shop, "/v1/search", item_id="a1", limit=5))


def test_words_that_say_nothing_leave_the_item_as_it_is(shop: Shop) -> None:
    for weight in (0.5, 1):
        reply = answered(shop, "/v1/refine", item_id="a1", text="hmm", weight=weight, limit=9)
        assert all(item_id.startswith("a") for item_id in ids(reply))
        assert reply["degraded"] == ["encode"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"text": "cheaper"}, ""),
        ({"item_id": "a1"}, ""),
        ({"item_id": "a1", "text": ""}, "/text"),
        ({"item_id": "a1", "text": "x", "weight": 2}, "/weight"),
        ({"item_id": "a1", "text": "cheaper", "filter": "price >"}, "/filter"),
        ({"item_id": "a\n1", "text": "x"}, "/item_id"),
    ],
)
def test_a_wrong_refinement_is_refused_by_name(still: Shop, body: dict[str, Any], field: str) -> None:
    assert refused(still.post("/v1/refine", **body), 422).get("field", "") == field


def test_ranking_gives_items_the_values_that_recommending_gives_them(shop: Shop) -> None:
    send(shop.client, event("u", "b1"), event("u", "b2"))
    slate = recommend(shop.client, user_id="u", limit=500)
    ranked = answered(shop, "/v1/rank", user_id="u", item_ids=sorted(ids(slate)))
    values = {item["item_id"]: item["value"] for item in slate["items"]}
    assert {item["item_id"]: item["value"] for item in ranked["items"]} == pytest.approx(values, abs=1e-6)
    told = [item["value"] for item in ranked["items"]]
    assert told == sorted(told, reverse=True)


def test_ranking_leaves_out_what_may_not_be_shown_and_names_what_it_does_not_know(shop: Shop) -> None:
    send(shop.client, event("u", "a1"))
    shop.post("/v1/items", item_id="a2", hidden=True)
    shop.post("/v1/users:block", user_id="u", item_ids=["a3"])
    reply = answered(shop, "/v1/rank", user_id="u", item_ids=["a1", "a2", "a3", "a4", "a4", "nowhere", "nowhere"])
    assert sorted(ids(reply)) == ["a1", "a4"]
    assert reply["missing_ids"] == ["nowhere"]
    assert {item["source"] for item in reply["items"]} == {"given"}


def test_a_thousand_items_can_be_ranked_and_no_more(shop: Shop) -> None:
    many = [*EVERYTHING, *(f"unknown {n}" for n in range(970))]
    reply = answered(shop, "/v1/rank", item_ids=many)
    assert len(reply["items"]) == 30
    assert len(reply["missing_ids"]) == 970
    assert refused(shop.post("/v1/rank", item_ids=[*many, "one more"]), 422)["field"] == "/item_ids"
    assert refused(shop.post("/v1/rank", item_ids=[]), 422)["field"] == "/item_ids"


def test_popular_is_in_order_of_popularity_of_all_or_of_a_category(shop: Shop) -> None:
    assert ids(shop.get("/v1/popular", limit=3).json()) == ["a0", "a1", "a2"]
    assert ids(shop.get("/v1/popular", limit=3, category="beta").json()) == ["b0", "b1", "b2"]
    unknown = shop.get("/v1/popular", category="delta").json()
    assert (unknown["items"], unknown["degraded"]) == ([], [])
    assert refused(shop.get("/v1/popular", category=""), 422)["field"] == "/category"
    assert refused(shop.get("/v1/popular", category="x" * 257), 422)["field"] == "/category"
    assert refused(shop.get("/v1/trending", category="beta"), 422)["field"] == "/category"


def test_a_list_for_a_user_leaves_out_what_they_have_seen(shop: Shop) -> None:
    everybody_takes_everything(shop)
    send(shop.client, event("u", "a0"))
    for path in ("/v1/popular", "/v1/trending"):
        assert "a0" in ids(shop.get(path).json())
        assert "a0" not in ids(shop.get(path, user_id="u").json())


def test_trending_follows_what_is_taken(shop: Shop) -> None:
    assert shop.get("/v1/trending").json()["items"] == []
    send(shop.client, *[event(f"u{n}", "c8") for n in range(3)], event("u", "b2"), event("u", "unheard of"))
    shop.service.trends.refresh()
    reply = shop.get("/v1/trending").json()
    assert ids(reply) == ["c8", "b2"]
    assert {item["source"] for item in reply["items"]} == {"trending"}
    send(shop.client, *[event(f"v{n}", "b2") for n in range(5)])
    shop.service.trends.refresh()
    assert ids(shop.get("/v1/trending").json()) == ["b2", "c8"]
    shop.client.delete("/v1/items/b2")
    assert ids(shop.get("/v1/trending").json()) == ["c8"]


def test_trending_stays_what_it_was_while_the_store_is_down(shop: Shop) -> None:
    send(shop.client, event("u", "b2"))
    shop.service.trends.refresh()
    shop.store.up = False
    shop.service.trends.refresh()
    assert ids(shop.get("/v1/trending").json()) == ["b2"]


def test_a_body_of_any_json_is_answered_or_refused_but_never_fails(shop: Shop) -> None:
    odd: list[Any] = [None, 1, "x", [], [1], {"text": None}, {"item_id": None, "vector": None}, {"filter": {}}]
    for path in ("/v1/search", "/v1/refine", "/v1/rank", "/v1/recommendations"):
        for body in odd:
            content = json.dumps(body)
            response = shop.client.post(path, content=content, headers={"content-type": "application/json"})
            assert response.status_code in (200, 422), (path, body)
