"""A running service over the small world of `tests.serving.world`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.app import create_app
from tests.serving.shop import Parts, Shop, open_shop
from tests.serving.world import FlakyStore, Shelf, opener, settings

Serve = Callable[..., TestClient]
OpenShop = Callable[..., Shop]


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def serve(tmp_path: Path, store: FlakyStore, shelf: Shelf) -> Iterator[Serve]:
    """Starts the service with these `[serving]` settings; it ends with the test."""
    with ExitStack() as stack:

        def start(**serving: Any) -> TestClient:
            app = create_app(settings(tmp_path, **serving), open_service=opener(store, shelf))
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()


@pytest.fixture
def opened() -> Iterator[OpenShop]:
    """Opens shops of these parts: `opened(Parts(...), threads=2)`; they close with the test."""
    with ExitStack() as stack:

        def start(parts: Parts | None = None, **serving: Any) -> Shop:
            return stack.enter_context(open_shop(parts, **serving))

        yield start


@pytest.fixture
def shop(opened: OpenShop) -> Shop:
    return opened()
