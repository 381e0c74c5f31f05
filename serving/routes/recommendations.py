"""POST /v1/recommendations."""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request

from recsys.recommender import recommend
from serving.bodies import Reply, decode, read_body
from serving.operations import Operation
from serving.queries import question_of, replied
from serving.schemas import RecommendationReply, RecommendationRequest
from serving.service import service_of

_DECODER = msgspec.json.Decoder(RecommendationRequest)


async def recommendations(request: Request) -> Reply:
    """A slate for a user, a session, or nobody in particular."""
    service = service_of(request)
    body = await read_body(request, service.settings.serving.limits.max_request_bytes)
    question = question_of(decode(_DECODER, body), service, "recommendations")
    budgets, explains = service.settings.serving.budgets, question.query.explain
    return await replied(
        request,
        service,
        question,
        partial(recommend, question.query),
        budget_ms=budgets.explain_ms if explains else budgets.recommendations_ms,
        in_thread=explains,
    )


OPERATION = Operation(
    "POST",
    "/v1/recommendations",
    recommendations,
    "Recommendations for a user or a session",
    scope="read",
    body=RecommendationRequest,
    reply=RecommendationReply,
    problems=(408, 413, 415, 422, 429, 500),
    example={"user_id": "42", "history": [{"item_id": "1270", "event_type": "view"}], "limit": 10, "explain": True},
)
