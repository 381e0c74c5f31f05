"""The service over real stores: what it promises holds on SQLite and on Redis, and Redis may die and come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from recsys.storage.redis_server import PrivateRedis
from recsys.storage.urls import open_store
from serving.app import create_app
from tests.serving.asking import event, ids, recommend, refused, send, soon
from tests.serving.world import Shelf, opener, settings


@contextmanager
def serving_over(url: str, folder: Path, n_workers: int = 1) -> Iterator[list[TestClient]]:
    """As many services over one store, each with connections of its own."""
    stores = [open_store(url, root=folder) for _ in range(n_workers)]
    clients = [TestClient(create_app(settings(folder), open_service=opener(store, Shelf()))) for store in stores]
    for client in clients:
        client.__enter__()
    try:
        yield clients
    finally:
        for client in clients:
            client.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path_factory.mktemp("redis"), append_only=True) as running:
        yield running


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, server: PrivateRedis) -> str:
    return "sqlite:///store.sqlite3" if request.param == "sqlite" else f"{server.url}?namespace=both"


def test_what_one_worker_took_changes_the_next_answer_of_another(url: str, tmp_path: Path) -> None:
    with serving_over(url, tmp_path, n_workers=2) as (one, other):
        assert ids(recommend(other, user_id="u", limit=5))[0] == "a0"
        send(one, event("u", "c9"))
        reply = recommend(other, user_id="u", limit=500)
        assert ids(reply)[0].startswith("c")
        assert "c9" not in ids(reply)
        one.post("/v1/items", json={"item_id": "new", "title": "gamma"})
        soon(lambda: "new" in ids(recommend(other, user_id="u", limit=12)))


def test_redis_may_be_killed_and_come_back(server: PrivateRedis, tmp_path: Path) -> None:
    with serving_over(f"{server.url}?namespace=killed", tmp_path) as (client,):
        send(client, event("u", "c9"))
        recommend(client, user_id="u")
        server.kill()
        try:
            for _ in range(5):
                reply = recommend(client, user_id="u", limit=5)
                assert set(reply["degraded"]) >= {"hydrate", "expose"}
                assert ids(reply)[0].startswith("c")
            lost = {"events": [event("u", "c8")]}
            refused(client.post("/v1/events:batch", json=lost), 503)
            refused(client.post("/v1/items", json={"item_id": "new", "title": "beta"}), 503)
        finally:
            server.start()
        soon(lambda: recommend(client, user_id="u")["degraded"] == [])
        assert client.post("/v1/events:batch", json=lost).json()["accepted"] == 1
        assert "c8" not in ids(recommend(client, user_id="u", limit=500))


def test_the_service_starts_before_its_redis(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path / "late")
    server.start()
    server.kill()
    with serving_over(server.url, tmp_path) as (client,):
        assert recommend(client, user_id="u")["degraded"]
        assert client.get("/readyz").status_code == 200
        server.start()
        try:
            soon(lambda: recommend(client, user_id="u")["degraded"] == [])
        finally:
            server.stop()
