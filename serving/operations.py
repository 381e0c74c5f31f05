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
# A scope of `recsys.serving_config.Scope`, or no key at all.
Needs = Literal["read", "events", "admin", "open"]


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
    scope: Needs = field(kw_only=True)

    @property
    def is_shed(self) -> bool:
        """Whether it is turned away while the service is full: all but what tells that it lives."""
        return self.scope != "open" and not self.path.startswith("/metrics")


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
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": API_VERSION, "description": description},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": keys},
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
    success: dict[str, Any] = {"description": "Done."}
    if operation.reply is not None:
        success["content"] = {"application/json": {"schema": _ref(operation.reply)}}
    responses = {str(operation.status): success}
    refused = {"description": "Refused, and why.", "content": {PROBLEM_JSON: {"schema": _ref(Problem)}}}
    by_access = () if operation.scope == "open" else (401, 403, 429)
    responses |= {str(status): refused for status in sorted({*operation.problems, *by_access})}
    described["responses"] = responses
    return described


def _ref(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": REF.format(name=struct.__name__)}
