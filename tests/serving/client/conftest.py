"""The families' service on a real port, and both clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from recsys.surfaces import SurfaceConfig
from recsys.workspace import WorkspaceConfig
from serving.app import create_app
from tests.serving.asking import soon
from tests.serving.client.both import Caller
from tests.serving.test_process import free_port
from tests.serving.world import FlakyStore, Shelf, opener, settings


@pytest.fixture(params=["Client", "AsyncClient"])
def call(request: pytest.FixtureRequest) -> Caller:
    return Caller(is_async=request.param == "AsyncClient")


def service_in(workspace: Path, **serving: Any) -> FastAPI:
    """The families' service, with a surface called home."""
    config = WorkspaceConfig(surfaces={"home": SurfaceConfig(limit=5)})
    return create_app(
        replace(settings(workspace, **serving), config=config), open_service=opener(FlakyStore(), Shelf())
    )


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return service_in(tmp_path)


@contextmanager
def on_a_port(app: FastAPI) -> Iterator[str]:
    """The address of `app` behind uvicorn."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        soon(lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=15)


@pytest.fixture
def serve_at(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts the service with these `[serving]` settings; its address."""
    with ExitStack() as stack:

        def start(**serving: Any) -> str:
            return stack.enter_context(on_a_port(service_in(tmp_path, **serving)))

        yield start


@pytest.fixture
def url(serve_at: Callable[..., str]) -> str:
    return serve_at()
