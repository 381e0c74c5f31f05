"""The service as an ASGI application. Importing this module does nothing; `create_app` opens what it needs when it
starts, and closes it when it ends."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import errors
from serving.access import Access
from serving.background import Repeating
from serving.bootstrap import open_rate_leases, open_service
from serving.cors import Cors
from serving.door import TURN_AWAY, TurnAway
from serving.envelope import ROUTE, Envelope, Observers, Rules
from serving.operations import API_VERSION, TITLE, Operation, openapi_document
from serving.rate_limits import RateLimits
from serving.routes import (
    events,
    experiments,
    health,
    items,
    lists,
    one_item,
    ranking,
    recommendations,
    search,
    similar,
    traces,
    users,
)
from serving.scopes import NeededScopes
from serving.service import Service
from serving.settings import Settings, settings_here
from serving.telemetry import FLUSH_EVERY_S, Telemetry, log_to_stderr
from serving.trace_peers import TracePeers, answering_peers
from serving.tracing import Tracing, open_tracing
from serving.work import Admission

OPERATIONS = (
    recommendations.OPERATION,
    ranking.OPERATION,
    *similar.OPERATIONS,
    *search.OPERATIONS,
    *lists.OPERATIONS,
    experiments.OPERATION,
    events.OPERATION,
    *one_item.OPERATIONS,
    *items.OPERATIONS,
    *users.OPERATIONS,
    *traces.OPERATIONS,
    *health.OPERATIONS,
)
SWITCH_S = 0.0005
GC_THRESHOLDS = (50_000, 20, 100)
DESCRIPTION = (
    "Personalised recommendations from behaviour, pictures and words. Errors are problem+json (RFC 9457); every reply "
    "carries X-Request-Id. Ids are any UTF-8 up to 256 characters without control characters; times are RFC 3339 with "
    "a zone."
)


class Application(FastAPI):
    """FastAPI inside our envelope: the operations at plain paths never reach its middleware and router, which would
    cost more than reading their bodies.

    Attributes:
        envelope: around every request.
    """

    envelope: Envelope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await self.envelope(scope, receive, send)

    async def routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the framework answers: paths that hold an id, its own pages, and what is not there."""
        await super().__call__(scope, receive, send)


def create_app(settings: Settings, open_service: Callable[[Settings, Telemetry], Service] = open_service) -> FastAPI:
    """The application of one workspace; `open_service` joins its parts."""
    telemetry = Telemetry(settings.metrics_dir)
    serving = settings.serving
    limits = RateLimits(serving.all_keys, serving.workers)
    tracing = open_tracing(serving.tracing)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        service = open_service(settings, telemetry)
        try:
            await asyncio.to_thread(service.start)
            app.state.service = service
            async with _beside(service, settings, limits, tracing) as app.state.trace_peers:
                yield {TURN_AWAY: turn_away}
        finally:
            await service.states.reader.close()
            await asyncio.to_thread(service.close)

    app = Application(title=TITLE, version=API_VERSION, lifespan=lifespan, redoc_url=None)
    for path in dict.fromkeys(each.path for each in OPERATIONS):
        here = {each.method: each for each in OPERATIONS if each.path == path}
        app.add_route(path, _named(here), methods=list(here))
    errors.install(app)
    access = Access(serving.all_keys, limits.buckets)
    cors = Cors(serving.cors_origins) if serving.cors_origins else None
    rules = Rules(access, NeededScopes(OPERATIONS), limits, cors)
    plain = {(each.method, each.path): each for each in OPERATIONS if "{" not in each.path}
    limits_of = serving.limits
    admissions = {"answers": Admission(limits_of.max_concurrent), "slow": Admission(limits_of.max_concurrent_slow)}
    turn_away = TurnAway(plain.values(), admissions, telemetry)
    observers = Observers(telemetry, serving.access_log, tracing)
    app.envelope = Envelope(app.routed, rules=rules, observers=observers, plain=plain, admissions=admissions)
    app.openapi = api_document  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _beside(
    service: Service, settings: Settings, limits: RateLimits, tracing: Tracing | None
) -> AsyncIterator[TracePeers]:
    """What runs in the background while requests are answered, and what asks the other workers for traces."""
    async with AsyncExitStack() as stack:
        leases = open_rate_leases(settings, limits)
        if leases is not None:
            stack.push_async_callback(asyncio.to_thread, leases.stop)
            await asyncio.to_thread(leases.start)
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        if settings.metrics_dir is not None:
            flushing = Repeating("metrics", service.telemetry.flush, FLUSH_EVERY_S)
            stack.callback(service.telemetry.flush)
            stack.push_async_callback(asyncio.to_thread, flushing.stop)
            service.telemetry.start()
            flushing.start()
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        peers = answering_peers(traces.renderer(service.traces), settings.metrics_dir, name)
        yield await stack.enter_async_context(peers)


def _named(operations: Mapping[str, Operation]) -> Callable[[Request], Awaitable[Any]]:
    """The endpoint of one path's operations by method (one route for all of them, so that a refusal names each method),
    which first tells the envelope the path's template: metrics and logs never see the path itself."""

    async def endpoint(request: Request) -> ASGIApp:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        request.scope[ROUTE] = operation.path
        return await operation.endpoint(request)

    return endpoint


def api_document() -> dict[str, Any]:
    """The OpenAPI document of the whole service."""
    return openapi_document(OPERATIONS, DESCRIPTION)


def app_of_this_process() -> FastAPI:
    """What a server's worker process calls: settings from its environment, logs to stderr."""
    # A background thread gives way to the requests ten times sooner than Python's default.
    sys.setswitchinterval(SWITCH_S)
    # A request leaves few cycles behind, and a catalogue is many objects to walk over: look for cycles seldom.
    gc.set_threshold(*GC_THRESHOLDS)
    log_to_stderr()
    return create_app(settings_here())
