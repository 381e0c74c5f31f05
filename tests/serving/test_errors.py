from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.schemas import ItemUpsert, RecommendationRequest
from tests.serving.asking import refused
from tests.serving.conftest import Serve
from tests.serving.world import FlakyStore

JSON = {"content-type": "application/json"}
POSTS = ("/v1/recommendations", "/v1/events:batch", "/v1/items")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nul",
        b'{"a":NaN}',
        b"\xff\xfe",
        b'{"user_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"context":' + b"[" * 9000,
    ],
)
def test_malformed_json_is_a_problem(client: TestClient, path: str, body: bytes) -> None:
    refused(client.post(path, content=body, headers=JSON), 422)


def test_deep_nesting_that_is_valid_json_is_a_problem(client: TestClient) -> None:
    nested = b'{"context": {"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}"
    refused(client.post("/v1/recommendations", content=nested, headers=JSON), 422)
    event = b'{"events": [{"context": {"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}]}"
    assert client.post("/v1/events:batch", content=event, headers=JSON).status_code in (202, 422)


def test_an_unknown_address_and_a_wrong_method_are_problems(client: TestClient) -> None:
    refused(client.get("/v1/nothing"), 404)
    response = client.get("/v1/recommendations")
    refused(response, 405)
    assert response.headers["allow"] == "POST"


def test_a_body_that_does_not_say_it_is_json_is_refused(client: TestClient) -> None:
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        problem = refused(client.post("/v1/recommendations", content=b"{}", headers={"content-type": media_type}), 415)
        assert "application/json" in problem["detail"]


def test_a_body_over_the_limit_is_refused_by_its_announcement(serve: Serve) -> None:
    client = serve(limits={"max_request_bytes": 1024})
    response = client.post("/v1/recommendations", content=b" " * 1025, headers=JSON)
    assert "1024" in refused(response, 413)["detail"]
    assert client.post("/v1/recommendations", content=b" " * 1022 + b"{}", headers=JSON).status_code == 200


def test_a_body_over_the_limit_is_refused_while_it_arrives(serve: Serve) -> None:
    client = serve(limits={"max_request_bytes": 1024})

    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 300

    response = client.post("/v1/recommendations", content=chunks(), headers=JSON)
    assert "content-length" not in response.request.headers
    refused(response, 413)


def test_the_request_id_is_echoed_or_made(client: TestClient) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/healthz").headers["x-request-id"]
    assert len(made) == 32
    assert made != client.get("/healthz").headers["x-request-id"]
    assert client.get("/healthz", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"


def test_a_bug_is_a_problem_without_its_cause(client: TestClient, store: FlakyStore, monkeypatch: Any) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(store, "user_state", broken)
    response = client.post("/v1/recommendations", json={"user_id": "u"})
    refused(response, 500)
    assert "secret" not in response.text
    assert "Traceback" not in response.text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from([*RecommendationRequest.__struct_fields__, *ItemUpsert.__struct_fields__, "events"])
likely = json_values | st.sampled_from(["a1", "c3", 1, True, "2026-05-01T12:00:00Z", [{"item_id": "a1"}], ["a1"], ""])
bodies = json_values | st.dictionaries(names, likely, max_size=5)
batches = st.fixed_dictionaries({"events": st.lists(bodies, max_size=3)})


@trying(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=bodies | batches)
def test_no_json_body_ever_breaks_the_service(client: TestClient, path: str, body: Any) -> None:
    response = client.post(path, content=json.dumps(body).encode(), headers=JSON)
    assert response.status_code in (200, 202, 422), response.text
    json.loads(response.text, parse_constant=lambda name: pytest.fail(f"{name} in a reply"))


@trying(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=st.binary(max_size=60))
def test_no_bytes_ever_break_the_service(client: TestClient, path: str, body: bytes) -> None:
    response = client.post(path, content=body, headers=JSON)
    assert response.status_code in (200, 202, 422), response.text
