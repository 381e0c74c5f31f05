"""The service as an ASGI application. Importing this module does nothing; `create_app` opens what it needs when it
starts, and closes it when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving import errors
from serving.access import Access
from serving.bootstrap import open_service
from serving.envelope import ROUTE, Envelope
from serving.operations import API_VERSION, TITLE, Endpoint, Operation, openapi_document
from serving.routes import events, health, items, recommendations, similar
from serving.service import Service
from serving.settings import Settings, settings_here
from serving.telemetry import Telemetry, log_to_stderr

OPERATIONS = (
    recommendations.OPERATION,
    *similar.OPERATIONS,
    events.OPERATION,
    items.OPERATION,
    *health.OPERATIONS,
)
DESCRIPTION = (
    "Personalised recommendations from behaviour, pictures and words. Errors are problem+json (RFC 9457); every reply "
    "carries X-Request-Id. Ids are any UTF-8 up to 256 characters without control characters; times are RFC 3339 with "
    "a zone."
)


def create_app(settings: Settings, open_service: Callable[[Settings, Telemetry], Service] = open_service) -> FastAPI:
    """The application of one workspace; `open_service` joins its parts."""
    telemetry = Telemetry(settings.metrics_dir)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = open_service(settings, telemetry)
        try:
            await asyncio.to_thread(service.releases.start)
            app.state.service = service
            yield
        finally:
            await asyncio.to_thread(service.close)

    app = FastAPI(title=TITLE, version=API_VERSION, lifespan=lifespan, redoc_url=None)
    for operation in OPERATIONS:
        app.add_route(operation.path, _named(operation), methods=[operation.method])
    errors.install(app)
    access = Access(settings.serving.api_keys_sha256)
    app.add_middleware(Envelope, access=access, telemetry=telemetry, access_log=settings.serving.access_log)
    app.openapi = api_document  # type: ignore[method-assign]
    return app


def _named(operation: Operation) -> Endpoint:
    """Its endpoint, which first tells the envelope the path's template: metrics and logs never see the path itself."""

    async def endpoint(request: Request) -> Response:
        request.scope[ROUTE] = operation.path
        return await operation.endpoint(request)

    return endpoint


def api_document() -> dict[str, Any]:
    """The OpenAPI document of the whole service."""
    return openapi_document(OPERATIONS, DESCRIPTION)


def app_of_this_process() -> FastAPI:
    """What a server's worker process calls: settings from its environment, logs to stderr."""
    log_to_stderr()
    return create_app(settings_here())
