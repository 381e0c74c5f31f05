"""GET /v1/items/{item_id}/similar and, for ids that a path cannot hold, GET /v1/similar?item_id=."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request

from recsys.errors import InvalidRequest
from recsys.fields import parse_id
from recsys.similar import similar
from recsys.similar_objects import similar_to_object
from serving.bodies import Reply
from serving.operations import Operation
from serving.queries import question_of, replied
from serving.query_strings import FILTER, LIMIT, OBJECT, PAGE_TOKEN, STRICT, SURFACE, USER_ID, asked_by
from serving.schemas import ID_SCHEMA, RecommendationReply
from serving.service import service_of

PARAMETERS = (LIMIT, FILTER, STRICT, USER_ID, SURFACE, PAGE_TOKEN, OBJECT)
PROBLEMS = (422, 429, 500)
ITEM_ID = {"name": "item_id", "required": True, "schema": ID_SCHEMA}


async def similar_items(request: Request) -> Reply:
    """Items like the one in the path."""
    return await _answer(request, request.path_params["item_id"])


async def similar_items_by_query(request: Request) -> Reply:
    """Items like the one in the query string."""
    item_id = request.query_params.get("item_id")
    if item_id is None:
        raise InvalidRequest("name an item: /v1/similar?item_id=ID", field="/item_id")
    return await _answer(request, item_id)


async def _answer(request: Request, item_id: str) -> Reply:
    """The nearest items under the hard rules; an unknown item has none, and is named."""
    service = service_of(request)
    item_id = parse_id(item_id, "item_id")
    asked, number = asked_by(request, PARAMETERS, {"item_id"}), _number(request)
    question = question_of(asked, service, "similar", item_id if number is None else (item_id, number))
    make = partial(similar, item_id, question.query)
    if number is not None:
        make = partial(similar_to_object, item_id, number, question.query)
    budget_ms = service.settings.serving.budgets.recommendations_ms
    return await replied(request, service, question, make, budget_ms=budget_ms, in_thread=True)


def _number(request: Request) -> int | None:
    """Which of the item's objects is asked for; None = the item as a whole."""
    text = request.query_params.get("object")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest("object must be a whole number", field="/object")
    return int(text)


OPERATIONS = (
    Operation(
        "GET",
        "/v1/items/{item_id}/similar",
        similar_items,
        "Items like one item",
        scope="read",
        lane="slow",
        reply=RecommendationReply,
        parameters=({**ITEM_ID, "in": "path"}, *PARAMETERS),
        problems=PROBLEMS,
    ),
    Operation(
        "GET",
        "/v1/similar",
        similar_items_by_query,
        "Items like one item, for ids that a path cannot hold",
        scope="read",
        lane="slow",
        reply=RecommendationReply,
        parameters=({**ITEM_ID, "in": "query"}, *PARAMETERS),
        problems=PROBLEMS,
    ),
)
