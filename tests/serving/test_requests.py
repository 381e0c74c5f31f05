"""What every request for items may say, on every route that takes it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.asking import ids, recommend, refused
from tests.serving.conftest import OpenShop, Serve
from tests.serving.routes_of_items import BODIES, ROUTES, asked, everybody_takes_everything, reply_of, slate_of
from tests.serving.shop import Parts, Shop, open_shop
from tests.serving.world import FamilyNames


@pytest.fixture(scope="module")
def still() -> Iterator[Shop]:
    """A shop that is only asked what it refuses."""
    with open_shop() as running:
        yield running


QUERIES = tuple(name for name in ROUTES if name not in BODIES)


@pytest.mark.parametrize("route", ROUTES)
def test_a_reply_holds_what_every_reply_holds(shop: Shop, route: str) -> None:
    everybody_takes_everything(shop)
    reply = reply_of(shop, route, limit=3)
    assert {
        "recommendation_id", "items", "release", "variants", "degraded", "missing_ids", "next_page_token",
    } <= set(reply)  # fmt: skip
    assert len(reply["items"]) == 3
    assert [item["position"] for item in reply["items"]] == [0, 1, 2]
    for item in reply["items"]:
        assert set(item) == {"item_id", "value", "source", "reasons", "position"}
        assert item["reasons"]
    values = [item["value"] for item in reply["items"]]
    assert route == "recommendations" or values == sorted(values, reverse=True)  # diversity moves items
    ((_, exposure),) = list(shop.store.exposures())
    assert exposure.recommendation_id == reply["recommendation_id"]
    assert list(exposure.item_ids) == ids(reply)
    assert shop.client.get(f"/v1/recommendations/{reply['recommendation_id']}/trace").status_code == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("limit", [1, 29, 30, 500])
def test_no_more_than_the_limit_are_shown(shop: Shop, route: str, limit: int) -> None:
    everybody_takes_everything(shop)
    shown = slate_of(shop, route, limit=limit)
    assert len(shown) == len(set(shown)) <= limit
    assert len(shown) >= min(limit, 10)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("limit", [0, 501, -1, 10**12, "many", 1.5, True])
def test_a_limit_that_is_none_is_refused(still: Shop, route: str, limit: Any) -> None:
    assert refused(asked(still, route, limit=limit), 422)["field"] == "/limit"


def test_the_most_that_a_service_gives_may_be_less(opened: OpenShop) -> None:
    running = opened(limits={"max_limit": 7})
    for route in ROUTES:
        assert refused(asked(running, route, limit=8), 422)["field"] == "/limit"
        assert len(slate_of(running, route)) in (0, 7)


@pytest.mark.parametrize("route", BODIES)
@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"strict_filtering": 1}, "/strict_filtering"),
        ({"strict_filtering": "true"}, "/strict_filtering"),
        ({"validate_only": None}, "/validate_only"),
        ({"explain": "yes"}, "/explain"),
        ({"exclude_item_ids": "a1"}, "/exclude_item_ids"),
        ({"exclude_item_ids": [1]}, "/exclude_item_ids/0"),
        ({"exclude_item_ids": [f"item {n}" for n in range(10_001)]}, "/exclude_item_ids"),
        ({"history": {"item_id": "a1"}}, "/history"),
        ({"history": [{"item_id": "a1"}] * 1001}, "/history"),
        ({"history": [{"item_id": "a1", "event_type": ""}]}, "/history/0/event_type"),
        ({"session_id": "s\n"}, "/session_id"),
        ({"filter": 1}, "/filter"),
        ({"surface": ""}, "/surface"),
        ({"page_token": 1}, "/page_token"),
        ({"context": []}, "/context"),
        ({"context": {"note": "x" * 70_000}}, "/context"),
        ({"unheard_of": 1}, "/unheard_of"),
    ],
)
def test_types_are_strict_and_the_field_is_named(still: Shop, route: str, more: dict[str, Any], field: str) -> None:
    assert refused(asked(still, route, **more), 422)["field"] == field
    assert list(still.store.exposures()) == []


@pytest.mark.parametrize("route", QUERIES)
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("strict_filtering=1", "/strict_filtering"),
        ("strict_filtering=True", "/strict_filtering"),
        ("limit=+5", "/limit"),
        ("limit=%D9%A5", "/limit"),  # an Arabic five
        ("limit=", "/limit"),
        ("limit=3&limit=3", "/limit"),
        ("offset=20", "/offset"),
        ("user_id=", "/user_id"),
        ("user_id=a%00", "/user_id"),
        ("surface=", "/surface"),
    ],
)
def test_query_strings_are_as_strict(still: Shop, route: str, query: str, field: str) -> None:
    path = ROUTES[route][1]
    separator = "&" if route == "similar_by_query" else ""
    prefix = "item_id=b3" if separator else ""
    assert refused(still.client.get(f"{path}?{prefix}{separator}{query}"), 422)["field"] == field


@pytest.mark.parametrize("route", BODIES)
def test_what_is_only_validated_is_answered_with_nothing_and_leaves_nothing(shop: Shop, route: str) -> None:
    encoder = shop.shelf.load("r1").content_encoder
    assert isinstance(encoder, FamilyNames)
    reply = reply_of(shop, route, validate_only=True, user_id="u", filter="price > 3", context={"page": "home"})
    assert (reply["recommendation_id"], reply["items"], reply["next_page_token"]) == ("", [], None)
    assert list(shop.store.exposures()) == []
    assert encoder.n_calls == 0


@pytest.mark.parametrize("route", BODIES)
def test_validating_refuses_what_answering_would(still: Shop, route: str) -> None:
    for more, field in [
        ({"filter": "price >"}, "/filter"),
        ({"filter": "attributes.nothing = 1"}, "/filter"),
        ({"surface": "nowhere"}, "/surface"),
        ({"user_id": "a\n"}, "/user_id"),
        ({"page_token": "forged"}, "/page_token"),
    ]:
        assert refused(asked(still, route, validate_only=True, **more), 422)["field"] == field


def test_validating_a_search_looks_at_its_vector_and_picture(still: Shop) -> None:
    for body, field in [
        ({"vector": [1.0]}, "/vector"),
        ({"vector": [1.0], "modality": "smell"}, "/modality"),
        ({"image_base64": "%%"}, "/image_base64"),
    ]:
        assert refused(still.post("/v1/search", validate_only=True, **body), 422)["field"] == field


def test_the_context_of_a_request_is_kept_in_the_log(shop: Shop) -> None:
    context = {"device": "phone", "hour": 21, "nested": {"a": [1, None]}, "large": 2**63}
    recommend(shop.client, context=context)
    recommend(shop.client)
    (_, first), (_, second) = list(shop.store.exposures())
    assert (first.context, second.context) == (context, {})


@pytest.mark.parametrize("route", BODIES)
def test_a_session_is_personal_without_a_user(shop: Shop, route: str) -> None:
    reply = reply_of(shop, route, session_id="s", history=[{"item_id": "nowhere"}, {"item_id": "c1"}])
    assert reply["missing_ids"] == ["nowhere"]
    ((_, exposure),) = list(shop.store.exposures())
    assert (exposure.user_id, exposure.session_id) == (None, "s")


@pytest.mark.parametrize("route", ROUTES)
def test_while_the_store_is_down_every_route_answers(shop: Shop, route: str) -> None:
    everybody_takes_everything(shop)
    shop.store.up = False
    reply = reply_of(shop, route, user_id="u", limit=3)
    assert len(reply["items"]) == 3
    assert {"hydrate", "expose"} <= set(reply["degraded"])


def test_where_no_answer_is_better_than_a_blocked_item_there_is_none(opened: OpenShop) -> None:
    running = opened(Parts(toml='[recommender.filter]\nfail_open = ["seen"]\n'))
    everybody_takes_everything(running)
    running.store.up = False
    for route in ROUTES:
        assert slate_of(running, route, user_id="u") == []
        assert slate_of(running, route) != []


@pytest.mark.parametrize("route", ROUTES)
def test_without_a_release_every_route_answers_with_nothing_and_says_so(opened: OpenShop, route: str) -> None:
    parts = Parts()
    parts.shelf.pointer = None
    reply = reply_of(opened(parts), route)
    assert (reply["items"], reply["degraded"], reply["release"]) == ([], ["release"], "")


def test_the_rate_of_a_key_and_a_full_service_are_told_apart(serve: Serve) -> None:
    key = {
        "name": "shop",
        "sha256": hashlib.sha256(b"k").hexdigest(),
        "scopes": ["read"],
        "rate_per_s": 0.001,
        "burst": 1,
    }
    client = serve(api_keys=(key,), limits={"max_concurrent": 1})
    headers = {"x-api-key": "k"}
    assert client.get("/v1/popular", headers=headers).status_code == 200
    limited = client.get("/v1/popular", headers=headers)
    assert refused(limited, 429)["type"] != "urn:recsys:problem:overloaded"
    assert int(limited.headers["retry-after"]) > 10
    full = full_while(client, lambda: client.get("/v1/popular", headers=headers))
    assert refused(full, 429)["type"] == "urn:recsys:problem:overloaded"
    assert int(full.headers["retry-after"]) <= 2
    metrics = client.app.state.service.telemetry.rendered().decode()  # type: ignore[attr-defined]
    counts = {line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics.splitlines() if line[:1] != "#"}
    told = {name: count for name, count in counts.items() if ("shed" in name or "rate_limited" in name) and count}
    assert list(told.values()) == [1.0, 1.0], told


def full_while(client: TestClient, ask: Callable[[], Any]) -> Any:
    """What is answered while another request is in work, of a service that takes one."""
    app: Any = client.app
    admission = app.envelope._admissions["answers"]
    admission.n += 1
    try:
        return ask()
    finally:
        admission.n -= 1


def test_bodies_that_are_no_json_are_refused_everywhere(still: Shop) -> None:
    for _, path, _ in (ROUTES[route] for route in BODIES):
        for body in (
            b"",
            b"{",
            b"\xff",
            b'{"user_id": "\xed\xa0\x80"}',
            b"[" * 5000,
            json.dumps({"a": 1e999}).encode(),
        ):
            response = still.client.post(path, content=body, headers={"content-type": "application/json"})
            refused(response, 422)
        refused(still.client.post(path, content=b"{}"), 415)


def test_many_at_once_are_all_answered_each_for_its_own_user(shop: Shop) -> None:
    async def one(number: int) -> None:
        user = f"user {number}"
        body = {"user_id": user, "history": [{"item_id": f"c{number % 10}"}], "limit": 500}
        response = await asyncio.to_thread(shop.client.post, "/v1/recommendations", json=body)
        assert f"c{number % 10}" not in ids(response.json())
        assert len(response.json()["items"]) == 29

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(all_of_them())
    assert {exposure.user_id for _, exposure in shop.store.exposures()} == {f"user {number}" for number in range(40)}
