from __future__ import annotations

import hashlib
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.telemetry import LOGGER
from tests.serving.asking import event, refused
from tests.serving.conftest import Serve

KEYS = ("key-one", "key-two")
HASHES = tuple(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)


@pytest.fixture
def closed(serve: Serve) -> TestClient:
    return serve(api_keys_sha256=HASHES)


def ask(client: TestClient, **headers: str) -> Any:
    return client.post("/v1/recommendations", json={}, headers=headers)


def test_without_a_key_nothing_but_health_answers(closed: TestClient) -> None:
    problem = refused(ask(closed), 401)
    assert "API key" in problem["detail"]
    for path in ("/openapi.json", "/metrics", "/v1/similar?item_id=a1", "/v1/nothing"):
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


def test_keys_and_user_ids_are_in_no_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    client = serve(api_keys_sha256=HASHES, access_log=True)
    with caplog.at_level(logging.DEBUG, logger=LOGGER.name):
        headers = {"authorization": "Bearer key-one"}
        client.post("/v1/recommendations", json={"user_id": "somebody"}, headers=headers)
        client.post("/v1/events:batch", json={"events": [event("somebody", "a1")]}, headers=headers)
        client.get("/v1/items/somebody/similar", headers=headers)
        ask(client, authorization="Bearer wrong-key")
    lines = [f"{record.getMessage()} {getattr(record, 'fields', '')}" for record in caplog.records]
    assert len([line for line in lines if "'route': '/v1/recommendations'" in line]) == 1
    assert len([line for line in lines if "'status': 401" in line]) == 1
    assert not [line for line in lines for word in ("key", "somebody") if word in line]
