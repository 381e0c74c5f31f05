"""The addresses of the API and their OpenAPI document. They become plain Starlette routes: half of FastAPI's cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from serving.errors import PROBLEM_JSON
from serving.schemas import Problem

TITLE = "recsys"
API_VERSION = "1"
Endpoint = Callable[[Request], Awaitable[ASGIApp]]
REF = "#/components/schemas/{name}"
HEADERS = {
    "X-Request-Id": {
        "description": "The request's own where it had one, else a new one. The service's log names it.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    },
    "Retry-After": {
        "description": "After how many seconds the same request is worth sending again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "That a key is asked for, and with which scope (RFC 6750).",
        "required": True,
        "schema": {"type": "string"},
    },
}
REFUSALS = {
    401: "No API key, or none that is known.",
    403: "The key lacks the scope.",
    404: "It is not there.",
    408: "The body did not come in time.",
    413: "More than the limit: send it in several requests.",
    415: "Not the media type that is asked for, or compressed.",
    422: "A field is wrong; `field` points at it.",
    429: "The service is full, or the key calls too often.",
    500: "The service failed; its log names the request's id.",
    503: "A part of the service does not answer.",
}
# A scope of `recsys.serving_config.Scope`, or no key at all.
Needs = Literal["read", "events", "admin", "open"]
Lane = Literal["answers", "slow", "watched"]


@dataclass(frozen=True)
class Operation:
    """One method at one path.

    Attributes:
        scope: what a key must be good for, or "open".
        body, reply: msgspec structs; None = no body, or a reply that is not JSON.
        parts: structs that these only refer to.
        parameters: OpenAPI parameter objects.
        problems: statuses of its problem+json replies.
        example: a body that works.
        media_type: of the body.
        lane: what it is counted with: "answers" are made at once, in turn; "slow" ones wait for others (an encoder, a
            thread, the store); what is "watched" is never turned away.
        reply_type: of a reply that is not JSON.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    status: int = 200
    body: type[msgspec.Struct] | None = None
    reply: type[msgspec.Struct] | None = None
    parts: Sequence[type[msgspec.Struct]] = ()
    parameters: Sequence[Mapping[str, Any]] = ()
    problems: Sequence[int] = ()
    example: Mapping[str, Any] | None = None
    media_type: str = "application/json"
    reply_type: str = ""
    scope: Needs = field(kw_only=True)
    lane: Lane = field(default="answers", kw_only=True)


def openapi_document(operations: Sequence[Operation], description: str) -> dict[str, Any]:
    """OpenAPI 3.1 of these operations, their schemas taken from the structs that decode and encode them."""
    named = (each for operation in operations for each in (operation.body, operation.reply, *operation.parts))
    structs: set[type[msgspec.Struct]] = {Problem, *(each for each in named if each is not None)}
    ordered = sorted(structs, key=lambda struct: struct.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    says = "An API key. Each operation names the scope that it needs; `admin` includes all. On loopback the service "
    says += "may run without keys."
    keys = {"bearer": {"type": "http", "scheme": "bearer", "description": says}}
    keys["header"] = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": says}
    components = {"schemas": dict(sorted(schemas.items())), "headers": HEADERS, "securitySchemes": keys}
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": API_VERSION, "description": description},
        "paths": paths,
        "components": components,
        "security": [{"bearer": []}, {"header": []}, {}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"summary": operation.summary, "operationId": operation.endpoint.__name__}
    if operation.scope == "open":
        described |= {"description": "Needs no API key.", "security": []}
    else:
        scopes = [operation.scope]
        described["description"] = f"Needs an API key with the scope `{operation.scope}`."
        described["security"] = [{"bearer": scopes}, {"header": scopes}, {}]
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body is not None:
        content: dict[str, Any] = {"schema": _ref(operation.body)}
        if operation.example is not None:
            content["example"] = operation.example
        described["requestBody"] = {"required": True, "content": {operation.media_type: content}}
    described["responses"] = _replies(operation)
    return described


def _replies(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Done.", "headers": _headers("X-Request-Id")}
    if operation.reply is not None:
        success["content"] = {"application/json": {"schema": _ref(operation.reply)}}
    elif operation.reply_type:
        success["content"] = {operation.reply_type: {"schema": {"type": "string"}}}
    refusals = {status: _refusal(status) for status in sorted({*operation.problems, *_always(operation)})}
    return {str(operation.status): success, **{str(status): refusal for status, refusal in refusals.items()}}


def _always(operation: Operation) -> set[int]:
    """Statuses of refusals that come from what an operation is, not from what it does."""
    by_access = set() if operation.scope == "open" else {401, 403, 429}
    by_body = set() if operation.body is None else {408, 413, 415, 422}
    by_path = {404} if "{" in operation.path else set()  # an id with a slash makes an address that does not exist
    return {500, *by_access, *by_body, *by_path}


def _refusal(status: int) -> dict[str, Any]:
    named = {401: "WWW-Authenticate", 403: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    return {
        "description": REFUSALS[status],
        "headers": _headers("X-Request-Id", *([named[status]] if status in named else [])),
        "content": {PROBLEM_JSON: {"schema": _ref(Problem)}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REF.format(name=struct.__name__)}
