"""Around every request: its id, who may pass, its time, its log line, and the reply to our own bugs."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import Access
from serving.errors import of_bug
from serving.telemetry import Telemetry, log

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
CLIENT_LEFT = 499
# Where a matched request's scope carries the template of its path.
ROUTE = "recsys.route"


class Envelope:
    """Plain ASGI middleware; nothing that happens inside it reaches the server as an exception."""

    def __init__(self, app: ASGIApp, *, access: Access, telemetry: Telemetry, access_log: bool) -> None:
        self._app = app
        self._access = access
        self._telemetry = telemetry
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        try:
            refusal = self._access.refusal(scope)
            await (refusal or self._app)(scope, receive, send_named)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except Exception:
            log(logging.ERROR, "a request failed", exc_info=True, request_id=request_id.decode(), route=_route(scope))
            if not status:
                await of_bug()(scope, receive, send_named)
            status = 500
        finally:
            self._note(scope, request_id, status, time.perf_counter() - started)

    def _note(self, scope: Scope, request_id: bytes, status: int, seconds: float) -> None:
        route = _route(scope)
        self._telemetry.request(route, status, seconds)
        if self._access_log:
            # The template of the path, never the path: that may hold an id.
            fields: dict[str, Any] = {"method": scope["method"], "route": route, "status": status}
            log(logging.INFO, "request", **fields, ms=round(seconds * 1e3, 2), request_id=request_id.decode())


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(16).encode()


def _route(scope: MutableMapping[str, Any]) -> str:
    return str(scope.get(ROUTE, "unmatched"))
