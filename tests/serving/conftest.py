"""A running service over the small world of `tests.serving.world`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.app import create_app
from tests.serving.world import FlakyStore, Shelf, opener, settings

Serve = Callable[..., TestClient]


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
