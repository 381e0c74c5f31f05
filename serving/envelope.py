"""Around every request: its id, who may pass, its time, its log line, its trace, and the reply to our own bugs."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import Access, Grant, Refusal
from serving.cors import Cors
from serving.door import FULL
from serving.errors import of_bug, reply_to
from serving.operations import Operation
from serving.rate_limits import RateLimits
from serving.recent_traces import TRACED
from serving.scopes import NeededScopes
from serving.service import STARTED
from serving.telemetry import Telemetry, log
from serving.tracing import Answered, Tracing
from serving.work import Admission

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
CLIENT_LEFT = 499
# Where a matched request's scope carries the template of its path.
ROUTE = "recsys.route"
# Where the scope of one that may pass carries its `Grant`.
GRANT = "recsys.grant"


@dataclass(frozen=True)
class Rules:
    """What is decided of a request before anything else looks at it.

    Attributes:
        cors: None where no page of another origin may call.
    """

    access: Access
    scopes: NeededScopes
    limits: RateLimits
    cors: Cors | None = None

    def judged(self, scope: Scope) -> Grant | Response:
        """The grant of a request that may pass, else the reply to it: 204 (CORS preflight), 401, 403 or 429."""
        headers, method, path = scope["headers"], scope["method"], scope["path"]
        if self.cors is not None:
            preflight = self.cors.preflight(method, headers)
            if preflight is not None:
                return preflight
        client = scope.get("client")
        judged = self.access.check(headers, path, self.scopes.of(method, path), client[0] if client else None)
        if isinstance(judged, Refusal):
            return judged.response
        return self.limits.refusal(judged.bucket) or judged


@dataclass(frozen=True)
class Observers:
    """Who is told of a request once it has been answered.

    Attributes:
        access_log: one log line for each request.
        tracing: None where no traces are sent.
    """

    telemetry: Telemetry
    access_log: bool = False
    tracing: Tracing | None = None


class Envelope:
    """Plain ASGI middleware; nothing that happens inside it reaches the server as an exception.

    Operations at plain paths are called from here: a router would cost more than reading their bodies.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        rules: Rules,
        observers: Observers,
        plain: Mapping[tuple[str, str], Operation],
        admissions: Mapping[str, Admission],
    ) -> None:
        """
        Args:
            plain: (method, path) → operation.
            admissions: by lane, how many requests may be in work; one more is answered with 429 at once.
        """
        self._app = app
        self._rules = rules
        self._observers = observers
        self._plain = plain
        self._admissions = admissions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        operation = self._plain.get((scope["method"], scope["path"]))
        lane = None if operation is None else self._admissions.get(operation.lane)
        if operation is not None and lane is not None and lane.n >= lane.most:
            await self._turn_away(operation, scope, send, started)
            return
        request_id = _request_id(scope)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                if self._rules.cors is not None:
                    headers += self._rules.cors.reply_headers(scope["headers"])
                message = {**message, "headers": headers}
            await send(message)

        try:
            judged = self._rules.judged(scope)
            if not isinstance(judged, Grant):
                await judged(scope, receive, send_named)
                return
            scope[GRANT] = judged
            scope[STARTED] = started
            if operation is None:
                await self._app(scope, receive, send_named)
                return
            scope[ROUTE] = operation.path
            if lane is not None:
                lane.n += 1
            try:
                reply = await operation.endpoint(Request(scope, receive))
            except ClientDisconnect:
                raise
            except Exception as error:
                refusal = reply_to(error)
                if refusal is None:
                    raise
                reply = refusal
            finally:
                if lane is not None:
                    lane.n -= 1
            await reply(scope, receive, send_named)
        except ClientDisconnect:
            status = CLIENT_LEFT
        except Exception:
            log(logging.ERROR, "a request failed", exc_info=True, request_id=request_id.decode(), route=_route(scope))
            if not status:
                await of_bug()(scope, receive, send_named)
            status = 500
        finally:
            self._note(scope, request_id, status, time.perf_counter() - started)

    async def _turn_away(self, operation: Operation, scope: Scope, send: Send, started: float) -> None:
        """What `serving.door` let through: before anybody looks who it is, since what is shed must cost little."""
        headers = [*FULL.raw_headers, (b"x-request-id", _request_id(scope))]
        await send({"type": "http.response.start", "status": FULL.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(FULL.body)})
        telemetry = self._observers.telemetry
        telemetry.request(operation.path, 429, time.perf_counter() - started)
        telemetry.shed(429)

    def _note(self, scope: Scope, request_id: bytes, status: int, seconds: float) -> None:
        route, to = _route(scope), self._observers
        to.telemetry.request(route, status, seconds)
        if status == 429:
            (to.telemetry.shed(429) if GRANT in scope else to.telemetry.rate_limited())
        if to.access_log:
            # The template of the path, never the path: that may hold an id.
            fields: dict[str, Any] = {"method": scope["method"], "route": route, "status": status}
            name = scope[GRANT].name if GRANT in scope else ""
            if name:
                fields["caller"] = name
            log(logging.INFO, "request", **fields, ms=round(seconds * 1e3, 2), request_id=request_id.decode())
        if to.tracing is not None and to.tracing.is_sampled(scope["headers"]):
            answered = Answered(scope["method"], route, status, seconds)
            to.tracing.note(scope["headers"], answered, scope.get(TRACED))


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value.strip(b" \t")):
            return bytes(value.strip(b" \t"))
    return os.urandom(16).hex().encode()


def _route(scope: MutableMapping[str, Any]) -> str:
    return str(scope.get(ROUTE, "unmatched"))
