"""Every adapter of the stores, for the suites that all of them must pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from recsys.ports import Store
from recsys.storage.redis_server import PrivateRedis
from recsys.storage.urls import open_store

OpenStore = Callable[[], Store]
NAMESPACES = count()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """A real redis-server for the whole session; tests keep apart by namespace."""
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store that other objects and processes can open too."""
    return url_of(request, request.param, tmp_path)


@pytest.fixture(params=["sqlite", "redis", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    opened = open_store(url_of(request, request.param, tmp_path))
    yield opened
    opened.close()


def url_of(request: pytest.FixtureRequest, kind: str, folder: Path) -> str:
    if kind == "memory":
        return "memory://"
    if kind == "sqlite":
        return f"sqlite:///{folder}/store-{next(NAMESPACES)}.db"
    server: PrivateRedis = request.getfixturevalue("redis_server")
    return f"{server.url}?namespace=t{next(NAMESPACES)}"
