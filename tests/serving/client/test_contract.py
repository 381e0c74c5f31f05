"""The client against the service: every operation, what is sent and what comes back, by the OpenAPI document."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx
import jsonschema
import msgspec
import pytest
from fastapi import FastAPI

from serving.app import OPERATIONS, api_document
from serving.client import AsyncClient, Client, HistoryEntry, ItemLine, ItemUpsert, NewEvent, picture
from serving.client.calls import Asked, Listed
from serving.operations import Operation
from serving.query_strings import FILTER, LIMIT, PAGE_TOKEN, STRICT, SURFACE, USER_ID
from serving.schemas import Asking, RecommendationRequest
from tests.serving.client.recorded import AsyncRecorded, Exchange, Recorded

NOW = datetime.now(UTC)
EVERYTHING: dict[str, Any] = {
    "user_id": "42",
    "session_id": "s-1",
    "history": [HistoryEntry("a1", "view", NOW), HistoryEntry("a2")],
    "context": {"device": "phone"},
    "surface": "home",
    "limit": 3,
    "filter": 'title != "x"',
    "exclude_item_ids": ["a3"],
    "strict_filtering": True,
    "explain": True,
}
LIST: dict[str, Any] = {"limit": 3, "filter": 'title != "x"', "strict_filtering": True, "user_id": "42"}
EVENT = NewEvent(user_id="42", item_id="a1", occurred_at=NOW, value=0.5, position=2, context={"n": 1})
ITEM = ItemUpsert("new", title="alpha", price=9.5, available_from=NOW, image_base64=picture(b"PICTURE alpha"))

# operation → (method, what it is called with), one or more of each.
CALLS: Mapping[str, list[tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "recommendations": [("recommendations", (), EVERYTHING), ("recommendations", (), {"validate_only": True})],
    "rank": [("rank", (["a1", "b1"],), EVERYTHING), ("rank", (["a1"],), {})],
    "similar_items_by_query": [("similar", ("a1",), LIST), ("similar", ("nobody/knows ü",), {})],
    "search_items": [
        ("search", ("alpha",), EVERYTHING),
        ("search", (), {"image": b"PICTURE beta", "personalise": 0.5}),
        ("search", (), {"item_id": "a1", "limit": 2}),
        ("search", (), {"vector": [1.0, *[0.0] * 7], "modality": "image"}),
    ],
    "refine": [("refine", ("a1", "beta"), EVERYTHING), ("refine", ("a1", "beta"), {"weight": 0.9, "personalise": 0.0})],
    "popular_items": [("popular", ("none such",), LIST), ("popular", (), {})],
    "trending_items": [("trending", (), LIST)],
    "events_batch": [("send_events", ([EVENT, EVENT],), {}), ("send_events", ([],), {})],
    "get_item_by_query": [("get_item", ("a1",), {}), ("get_item", ("a2",), {"surface": "home"})],
    "upsert_item": [("upsert_item", (ITEM,), {}), ("upsert_item", (ItemUpsert("new", price=None, hidden=True),), {})],
    "upsert_items": [("upsert_items", ([ITEM, ItemLine("a9", delete=True)],), {}), ("upsert_items", ([],), {})],
    "delete_items": [("delete_items", (["a8", "nobody"],), {})],
    "merge_users": [("merge_users", ("s-1", "42"), {})],
    "block_items": [("block_items", ("42", ["a7"]), {})],
    "unblock_items": [("unblock_items", ("42", ["a7"]), {})],
    "erase_user_by_body": [("erase_user", ("42",), {})],
    "experiment_assignment": [("variants", ("42",), {"session_id": "s-1"}), ("variants", (), {"session_id": "s"})],
    "healthz": [("health", (), {})],
    "readyz": [("ready", (), {})],
    "metrics": [("metrics", (), {})],
}
# Their ids travel in the path, where not every id fits and a proxy's log keeps it: the client calls their twins.
TWINS = {
    "similar_items": "similar_items_by_query",
    "get_item": "get_item_by_query",
    "delete_item": "delete_items",
    "erase_user": "erase_user_by_body",
}
BY_NAME: dict[str, Operation] = {each.endpoint.__name__: each for each in OPERATIONS}
EACH = [
    pytest.param(name, *call, id=f"{name}-{number}")
    for name, calls in CALLS.items()
    for number, call in enumerate(calls)
]


def test_every_operation_has_a_method() -> None:
    document = api_document()
    operations = {each["operationId"] for methods in document["paths"].values() for each in methods.values()}
    assert operations == {*CALLS, *TWINS, "recommendation_trace"}


def test_an_operation_that_is_left_out_answers_as_its_twin_does() -> None:
    for left_out, twin in TWINS.items():
        assert BY_NAME[left_out].reply is BY_NAME[twin].reply


@pytest.mark.parametrize(("name", "method", "given", "asked"), EACH)
def test_what_is_sent_and_what_comes_back_are_as_the_document_says(
    url: str, name: str, method: str, given: tuple[Any, ...], asked: dict[str, Any]
) -> None:
    recorded = Recorded()
    with Client(url, transport=recorded) as client:
        reply = getattr(client, method)(*given, **asked)
    (exchange,) = recorded.exchanges
    require_as_documented(BY_NAME[name], exchange)
    require_all_kept(BY_NAME[name], reply, exchange)


def test_a_trace_is_as_the_document_says(url: str) -> None:
    recorded = Recorded()
    with Client(url, transport=recorded) as client:
        reply = client.trace(client.recommendations(user_id="42", explain=True).recommendation_id)
    assert reply.stages
    require_as_documented(BY_NAME["recommendation_trace"], recorded.exchanges[1])
    require_all_kept(BY_NAME["recommendation_trace"], reply, recorded.exchanges[1])


def test_the_client_that_awaits_sends_and_takes_the_same(app: FastAPI) -> None:
    async def ask_everything() -> None:
        recorded = AsyncRecorded(httpx.ASGITransport(app))
        async with app.router.lifespan_context(app), AsyncClient("http://service", transport=recorded) as client:
            for name, calls in CALLS.items():
                for method, given, asked in calls:
                    reply = await getattr(client, method)(*given, **asked)
                    require_as_documented(BY_NAME[name], recorded.exchanges[-1])
                    require_all_kept(BY_NAME[name], reply, recorded.exchanges[-1])
            slate = await client.recommendations(user_id="42")
            assert (await client.trace(slate.recommendation_id)).recommendation_id == slate.recommendation_id

    asyncio.run(ask_everything())


def test_both_clients_offer_the_same() -> None:
    def offered(client: type) -> dict[str, list[str]]:
        methods = {name: getattr(client, name) for name in dir(client) if not name.startswith("_")}
        return {name: list(inspect.signature(method).parameters) for name, method in methods.items()}

    assert offered(Client) == offered(AsyncClient)


def test_every_field_of_a_request_can_be_asked_for() -> None:
    assert set(Asked.__annotations__) == set(Asking.__struct_fields__) == set(RecommendationRequest.__struct_fields__)
    listed = (LIMIT, FILTER, STRICT, USER_ID, SURFACE, PAGE_TOKEN)
    assert set(Listed.__annotations__) == {each["name"] for each in listed}
    assert set(EVERYTHING) | {"page_token", "validate_only"} == set(Asked.__annotations__)


def test_only_what_is_given_is_sent(url: str) -> None:
    recorded = Recorded()
    with Client(url, transport=recorded) as client:
        client.recommendations(user_id="42")
        client.recommendations(**EVERYTHING)
    first, second = (json.loads(request.content) for request, _ in recorded.exchanges)
    assert first == {"user_id": "42"}
    assert set(second) == set(EVERYTHING)


def require_as_documented(operation: Operation, exchange: Exchange) -> None:
    """The request is one that the document allows, and so is the reply."""
    request, response = exchange
    described = api_document()["paths"][operation.path][operation.method.lower()]
    assert request.method == operation.method
    assert _fits(unquote(request.url.path), operation.path)
    _require_parameters(described.get("parameters", []), request.url.params)
    if operation.body is not None:
        body = described["requestBody"]["content"][request.headers["content-type"]]
        for line in request.content.split(b"\n") if operation.media_type.endswith("ndjson") else [request.content]:
            if line:
                validate(json.loads(line), body["schema"])
    assert response.status_code == operation.status
    if operation.reply is not None:
        schema = described["responses"][str(operation.status)]["content"]["application/json"]["schema"]
        validate(response.json(), schema)


def require_all_kept(operation: Operation, reply: Any, exchange: Exchange) -> None:
    """The value that a method returns holds all that came: written again it is the same."""
    body = exchange[1].content
    if operation.reply is None:
        assert reply == body.decode()
    else:
        assert isinstance(reply, operation.reply)
        assert msgspec.json.encode(reply) == body


def validate(value: Any, schema: Mapping[str, Any]) -> None:
    whole = {**schema, "components": api_document()["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


def _fits(path: str, template: str) -> bool:
    steps = zip(path.split("/"), template.split("/"), strict=True)
    return all(step == wanted or wanted.startswith("{") for step, wanted in steps)


def _require_parameters(described: list[dict[str, Any]], given: httpx.QueryParams) -> None:
    schemas = {each["name"]: each["schema"] for each in described if each["in"] == "query"}
    reads: dict[str, Callable[[str], Any]] = {"integer": int, "boolean": json.loads, "string": str}
    for name, text in given.multi_items():
        validate(reads[schemas[name]["type"]](text), schemas[name])
    assert {each["name"] for each in described if each["in"] == "query" and each.get("required")} <= set(given)
