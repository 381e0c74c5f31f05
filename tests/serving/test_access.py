from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys.serving_config import ApiKeyConfig
from serving.access import Access, Grant, Refusal
from serving.app import OPERATIONS
from serving.scopes import NeededScopes
from serving.telemetry import LOGGER, JsonLines
from tests.serving.asking import event, refused
from tests.serving.conftest import Serve
from tests.serving.world import FlakyStore

KEYS = ("key-one", "key-two")


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


HASHES = tuple(map(sha256, KEYS))
SCOPED = tuple({"name": scope, "sha256": sha256(f"{scope}-key"), "scopes": [scope]} for scope in ("read", "events"))
ADMIN = {"name": "admin", "sha256": sha256("admin-key"), "scopes": ["admin"]}


@pytest.fixture
def closed(serve: Serve) -> TestClient:
    return serve(api_keys_sha256=HASHES)


@pytest.fixture
def scoped(serve: Serve) -> TestClient:
    return serve(api_keys=(*SCOPED, ADMIN))


def ask(client: TestClient, **headers: str) -> Any:
    return client.post("/v1/recommendations", json={}, headers=headers)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_without_a_key_nothing_but_health_answers(closed: TestClient) -> None:
    problem = refused(ask(closed), 401)
    assert "API key" in problem["detail"]
    for path in ("/openapi.json", "/metrics", "/v1/similar?item_id=a1", "/v1/nothing", "/v1/recommendations/r/trace"):
        refused(closed.get(path), 401)
    assert closed.get("/healthz").status_code == 200
    assert closed.get("/readyz").status_code == 200


@pytest.mark.parametrize("key", KEYS)
def test_each_key_opens_in_either_header(closed: TestClient, key: str) -> None:
    assert ask(closed, authorization=f"Bearer {key}").status_code == 200
    assert ask(closed, **{"x-api-key": key}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic key-one"},
        {"authorization": f"Bearer {HASHES[0]}"},
        {"x-api-key": ""},
        {"x-api-key": "key-one2"},
        {"authorization": "Bearer"},
    ],
)
def test_what_is_no_key_does_not_open(closed: TestClient, headers: dict[str, str]) -> None:
    refused(ask(closed, **headers), 401)


def test_a_scraper_on_this_machine_needs_no_key_but_a_proxy_does(closed: TestClient) -> None:
    local = TestClient(closed.app, client=("127.0.0.1", 5000))
    assert local.get("/metrics").status_code == 200
    refused(local.get("/metrics", headers={"X-Forwarded-For": "203.0.113.7"}), 401)


def test_a_key_opens_what_its_scopes_name_and_a_refusal_says_which_is_missing(scoped: TestClient) -> None:
    events = {"events": [event("u", "a1")]}
    assert ask(scoped, **bearer("read-key")).status_code == 200
    assert scoped.post("/v1/events:batch", json=events, headers=bearer("events-key")).status_code == 202
    problem = refused(scoped.post("/v1/events:batch", json=events, headers=bearer("read-key")), 403)
    assert "`events`" in problem["detail"]
    assert "`read`" in refused(ask(scoped, **bearer("events-key")), 403)["detail"]
    for key in ("read-key", "events-key"):
        response = scoped.post("/v1/items", json={"item_id": "n"}, headers=bearer(key))
        assert "`admin`" in refused(response, 403)["detail"]
        assert 'scope="admin"' in response.headers["www-authenticate"]


def test_admin_implies_every_scope(scoped: TestClient) -> None:
    assert ask(scoped, **bearer("admin-key")).status_code == 200
    events = {"events": [event("u", "a1")]}
    assert scoped.post("/v1/events:batch", json=events, headers=bearer("admin-key")).status_code == 202
    assert scoped.get("/metrics", headers=bearer("admin-key")).status_code == 200


def test_an_unknown_path_or_method_needs_any_valid_key(scoped: TestClient) -> None:
    for key in ("read-key", "events-key", "admin-key"):
        refused(scoped.get("/v1/nothing", headers=bearer(key)), 404)
        refused(scoped.get("/v1/recommendations", headers=bearer(key)), 405)
    refused(scoped.get("/v1/nothing"), 401)


def test_a_head_request_needs_what_its_get_needs(scoped: TestClient) -> None:
    assert scoped.head("/metrics", headers=bearer("read-key")).status_code == 403
    assert scoped.head("/v1/similar?item_id=a1", headers=bearer("events-key")).status_code == 403


FILLED = {"item_id": "a1", "recommendation_id": "r-1", "user_id": "u"}
NEEDED = {f"{each.method} {each.path}": each for each in OPERATIONS}


@pytest.mark.parametrize("name", NEEDED)
def test_every_operation_opens_to_keys_of_its_scope_alone(scoped: TestClient, name: str) -> None:
    operation = NEEDED[name]
    path = operation.path.format_map(FILLED)
    opens = {"read": ("read", "admin"), "events": ("events", "admin"), "admin": ("admin",)}
    for key in ("read", "events", "admin"):
        status = scoped.request(operation.method, path, headers=bearer(f"{key}-key")).status_code
        may = operation.scope == "open" or key in opens[operation.scope]
        assert (status == 403) is not may, (key, status)
        assert status != 401
    without = scoped.request(operation.method, path)
    assert (without.status_code == 401) is (operation.scope != "open")
    if operation.scope != "open":
        refused(without, 401)


def test_the_scope_of_every_operation_is_found_by_its_path() -> None:
    needed = NeededScopes(OPERATIONS)
    for operation in OPERATIONS:
        path = operation.path.format_map({**FILLED, "item_id": "a b:c"})
        assert needed.of(operation.method, path) == operation.scope, path
    assert needed.of("GET", "/v1/items/a/b/similar") is None
    assert needed.of("DELETE", "/metrics") is None


def test_a_key_that_is_listed_twice_keeps_the_scopes_it_was_named_with(serve: Serve) -> None:
    client = serve(api_keys=SCOPED, api_keys_sha256=(sha256("read-key"),))
    refused(client.post("/v1/items", json={"item_id": "n"}, headers=bearer("read-key")), 403)


def test_the_grant_carries_the_name_of_the_key() -> None:
    access = Access([ApiKeyConfig(name="shop", sha256=sha256("k"), scopes=("read",))])
    for _ in range(2):  # the second time from what was met before
        grant = access.check([(b"x-api-key", b"k")], "/v1/recommendations", "read")
        assert isinstance(grant, Grant)
        assert (grant.name, grant.bucket) == ("shop", None)
    for number in range(1000):
        refusal = access.check([(b"x-api-key", b"guess %d" % number)], "/v1/recommendations", "read")
        assert isinstance(refusal, Refusal)
        assert refusal.status == 401
    assert len(access._met) == 1, "guesses are not remembered"


def test_the_document_says_which_scope_an_operation_needs(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert paths["/v1/recommendations"]["post"]["security"][0] == {"bearer": ["read"]}
    assert "`admin`" in paths["/v1/items"]["post"]["description"]
    assert paths["/healthz"]["get"]["security"] == []


SECRETS = ("secret-key", "reader-secret", "wrong-secret", "somebody", "some-item")


def everything_once(client: TestClient, user: str, item: str, headers: dict[str, str]) -> list[int]:
    """A call of every route, and of what is refused for each reason; the statuses."""
    body = {"user_id": user, "history": [{"item_id": item}], "exclude_item_ids": [item]}
    calls: list[tuple[str, str, Any]] = [
        ("POST", "/v1/recommendations", body),
        ("POST", "/v1/recommendations", {**body, "limit": item}),
        ("POST", "/v1/recommendations", {**body, item: user}),
        ("POST", "/v1/events:batch", {"events": [event(user, item), {"event_id": item, "user_id": user}]}),
        ("POST", "/v1/events:batch", {item: user}),
        ("POST", "/v1/items", {"item_id": item, "title": "t"}),
        ("POST", "/v1/items", {"item_id": item, "price": -1}),
        ("GET", f"/v1/items/{item}/similar", None),
        ("GET", f"/v1/items/{item}/similar?limit={user}", None),
        ("GET", f"/v1/similar?item_id={item}", None),
        ("GET", f"/v1/similar?item_id={item}&{user}=1", None),
        ("GET", f"/v1/recommendations/{user}/trace", None),
        ("POST", "/v1/search", {**body, "text": item}),
        ("POST", "/v1/search", {**body, "item_id": item}),
        ("POST", "/v1/search", {**body, "image_base64": item}),
        ("POST", "/v1/refine", {**body, "item_id": "a1", "text": f"cheaper {item}"}),
        ("POST", "/v1/rank", {**body, "item_ids": [item], "filter": f"price > {user}"}),
        ("POST", "/v1/items:batch", {"item_id": item, user: item}),
        ("POST", "/v1/items:delete", {"item_ids": [item, user]}),
        ("POST", "/v1/users:block", {"user_id": user, "item_ids": [item]}),
        ("POST", "/v1/users:unblock", {"user_id": user, "item_ids": [item]}),
        ("POST", "/v1/users:merge", {"source_user_id": item, "target_user_id": user}),
        ("POST", "/v1/users:erase", {"user_id": user}),
        ("DELETE", f"/v1/users/{user}", None),
        ("DELETE", f"/v1/items/{item}", None),
        ("GET", f"/v1/popular?category={item}&user_id={user}", None),
        ("GET", f"/v1/trending?user_id={user}&surface={item}", None),
        ("GET", f"/v1/{user}/{item}", None),
        ("PUT", f"/v1/items/{item}/similar", None),
        *[("GET", path, None) for path in ("/healthz", "/readyz", "/metrics")],
    ]
    return [client.request(method, path, json=json, headers=headers).status_code for method, path, json in calls]


def test_keys_and_ids_are_in_no_log_of_any_route_or_refusal(
    serve: Serve, store: FlakyStore, caplog: pytest.LogCaptureFixture
) -> None:
    keys = (
        {"name": "boss", "sha256": sha256("secret-key"), "scopes": ["admin"]},
        {"name": "reader", "sha256": sha256("reader-secret"), "scopes": ["events"], "rate_per_s": 0.01, "burst": 2},
    )
    client = serve(api_keys=keys, access_log=True)
    with caplog.at_level(logging.DEBUG):
        statuses = everything_once(client, "somebody", "some-item", bearer("secret-key"))
        statuses += everything_once(client, "somebody", "some-item", {"x-api-key": "reader-secret"})
        statuses += everything_once(client, "somebody", "some-item", bearer("wrong-secret"))
        store.up = False
        statuses += everything_once(client, "somebody", "some-item", bearer("secret-key"))
    assert {200, 202, 401, 403, 404, 405, 422, 429, 503} <= set(statuses)
    lines = [JsonLines().format(record) for record in caplog.records if record.name == LOGGER.name]
    assert len([line for line in lines if '"message": "request"' in line]) == len(statuses)
    assert [line for line in lines if '"caller": "reader"' in line]
    assert not [line for line in lines for word in SECRETS if word in line]
    text = client.get("/metrics", headers=bearer("secret-key")).text
    assert not [word for word in SECRETS if word in text]


def test_a_bug_leaves_its_place_and_kind_in_the_log_but_not_the_id_it_speaks_of(
    serve: Serve, store: FlakyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(user_id: str, with_served: bool = False) -> None:
        try:
            {}[user_id]
        except KeyError as error:
            raise ValueError(f"no such user: {user_id}") from error

    client = serve()
    monkeypatch.setattr(store, "user_state", broken)
    with caplog.at_level(logging.DEBUG, logger=LOGGER.name):
        refused(client.post("/v1/recommendations", json={"user_id": "somebody"}), 500)
    lines = [JsonLines().format(record) for record in caplog.records]
    assert (
        len([line for line in lines if "KeyError" in line and "ValueError" in line and "test_access.py" in line]) == 1
    )
    assert not [line for line in lines if "somebody" in line]
