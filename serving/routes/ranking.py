"""POST /v1/rank: given items, in order of value for a user."""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import UNSET
from starlette.requests import Request

from recsys.fields import parse_id
from recsys.rank_items import rank_items
from serving.bodies import Reply, decode, read_body
from serving.operations import Operation
from serving.queries import question_of, replied
from serving.schemas import RankRequest, RecommendationReply
from serving.service import service_of

_DECODER = msgspec.json.Decoder(RankRequest)


async def rank(request: Request) -> Reply:
    """The named items, best first."""
    service = service_of(request)
    limits = service.settings.serving.limits
    asked = decode(_DECODER, await read_body(request, limits.max_request_bytes))
    item_ids = tuple(parse_id(item_id, "item_ids") for item_id in asked.item_ids)
    if asked.limit is UNSET:
        asked.limit = min(len(item_ids), limits.max_limit)
    question = question_of(asked, service, "rank", item_ids)
    budgets, explains = service.settings.serving.budgets, question.query.explain
    return await replied(
        request,
        service,
        question,
        partial(rank_items, item_ids, question.query),
        budget_ms=budgets.explain_ms if explains else budgets.recommendations_ms,
        in_thread=explains,
        has_pages=question.query.limit < len(set(item_ids)),
    )


OPERATION = Operation(
    "POST",
    "/v1/rank",
    rank,
    "Given items in order of value for a user or a session",
    scope="read",
    body=RankRequest,
    reply=RecommendationReply,
    problems=(408, 413, 415, 422, 429, 500),
    example={"user_id": "42", "item_ids": ["1270", "318", "593"]},
)
