"""GET /v1/items/{item_id}/similar and, for ids that a path cannot hold, GET /v1/similar?item_id=."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import InvalidRequest
from recsys.fields import parse_id
from recsys.serving_config import LimitsConfig
from recsys.similar import similar
from serving.bodies import json_reply
from serving.operations import Operation
from serving.schemas import SimilarReply, recommended
from serving.service import Service, service_of

DEFAULT_LIMIT = 20


async def similar_items(request: Request) -> Response:
    """Items like the one in the path."""
    return await _answer(request, request.path_params["item_id"])


async def similar_items_by_query(request: Request) -> Response:
    """Items like the one in the query string."""
    item_id = request.query_params.get("item_id")
    if item_id is None:
        raise InvalidRequest("name an item: /v1/similar?item_id=ID", field="/item_id")
    return await _answer(request, item_id)


async def _answer(request: Request, item_id: str) -> Response:
    service = service_of(request)
    limit = _limit(request, service.settings.serving.limits)
    item_id = parse_id(item_id, "item_id")
    return json_reply(await service.requests.run(lambda: _reply(service, item_id, limit)))


def _limit(request: Request, limits: LimitsConfig) -> int:
    """The only other parameter; anything else is refused, for nothing is ignored."""
    for name in request.query_params:
        if name not in ("item_id", "limit"):
            raise InvalidRequest(f"there is no parameter {name}", field=f"/{name}")
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= limits.max_limit):
        raise InvalidRequest(f"limit must be a whole number from 1 to {limits.max_limit}", field="/limit")
    return int(text)


def _reply(service: Service, item_id: str, limit: int) -> SimilarReply:
    """The nearest items under the hard rules that hold for everybody; an unknown item has none, and is named."""
    view = service.releases.view
    if view is None:
        return SimilarReply(item_id, (), "", ("release",), (item_id,))
    slate = similar(item_id, view, now=datetime.now(UTC), limit=limit)
    items = tuple(recommended(item, explain=False) for item in slate.items)
    return SimilarReply(item_id, items, slate.release, slate.degraded, slate.missing_ids)


LIMIT: dict[str, Any] = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": 500, "default": DEFAULT_LIMIT},
}
ITEM_ID = {"name": "item_id", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}
PROBLEMS = (401, 422, 429, 500)

OPERATIONS = (
    Operation(
        "GET",
        "/v1/items/{item_id}/similar",
        similar_items,
        "Items like one item",
        scope="read",
        reply=SimilarReply,
        parameters=({**ITEM_ID, "in": "path"}, LIMIT),
        problems=PROBLEMS,
    ),
    Operation(
        "GET",
        "/v1/similar",
        similar_items_by_query,
        "Items like one item, for ids that a path cannot hold",
        scope="read",
        reply=SimilarReply,
        parameters=({**ITEM_ID, "in": "query"}, LIMIT),
        problems=PROBLEMS,
    ),
)
