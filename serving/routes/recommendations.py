"""POST /v1/recommendations."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import InvalidRequest, NotSupported
from recsys.events import hash64
from recsys.fields import parse_id
from recsys.serving_config import LimitsConfig
from recsys.types import HistoryItem, Query, Slate
from serving.bodies import json_reply, read_body
from serving.operations import Operation
from serving.recent_traces import TRACED
from serving.schemas import (
    HistoryEntry,
    RecommendationReply,
    RecommendationRequest,
    Stage,
    decode,
    milliseconds,
    recommended,
)
from serving.service import Service, service_of

# Fields of the request whose features come with later versions, each with the value that asks for nothing.
LATER = {
    "context": (None, {}),
    "surface": (None, ""),
    "filter": (None, ""),
    "strict_filtering": (False,),
    "page_token": (None, ""),
    "validate_only": (False,),
}
_DECODER = msgspec.json.Decoder(RecommendationRequest)


async def recommendations(request: Request) -> Response:
    """A slate for a user, a session, or nobody in particular."""
    service = service_of(request)
    service.requests.require_room()
    body = await read_body(request, service.settings.serving.limits.max_request_bytes)
    reply = await service.requests.run(lambda: answer(service, body, datetime.now(UTC)))
    request.scope[TRACED] = service.traces.get(reply.recommendation_id)
    return json_reply(reply)


def answer(service: Service, body: bytes, now: datetime) -> RecommendationReply:
    """The whole work of one request, in one thread."""
    query = query_of(body, service.settings.serving.limits, now)
    return reply_of(service.recommend(query), explain=query.explain)


def query_of(body: bytes, limits: LimitsConfig, now: datetime) -> Query:
    """The query that a body asks for.

    Raises:
        InvalidRequest: a field is wrong; it is named.
        NotSupported: a field asks for a feature of a later version.
    """
    asked = decode(_DECODER, body)
    for name, nothing in LATER.items():
        if getattr(asked, name) not in nothing:
            raise NotSupported(f"{name} is not supported by this version; leave it out", field=f"/{name}")
    if asked.limit > limits.max_limit:
        raise InvalidRequest(f"limit is at most {limits.max_limit}", field="/limit")
    _require_at_most(asked.history, limits.max_history, "history")
    _require_at_most(asked.exclude_item_ids, limits.max_exclude, "exclude_item_ids")
    recommendation_id = uuid.uuid4().hex
    return Query(
        recommendation_id=recommendation_id,
        now=now,
        user_id=None if asked.user_id is None else parse_id(asked.user_id, "user_id"),
        session_id=None if asked.session_id is None else parse_id(asked.session_id, "session_id"),
        history=tuple(map(_history_item, asked.history)),
        exclude_item_ids=tuple(parse_id(item_id, "exclude_item_ids") for item_id in asked.exclude_item_ids),
        limit=asked.limit,
        explain=asked.explain,
        seed=hash64(recommendation_id),
    )


def reply_of(slate: Slate, *, explain: bool) -> RecommendationReply:
    return RecommendationReply(
        recommendation_id=slate.recommendation_id,
        items=tuple(recommended(item, explain=explain) for item in slate.items),
        release=slate.release,
        variants=slate.variants,
        degraded=slate.degraded,
        missing_ids=slate.missing_ids,
        next_page_token=slate.next_page_token,
        trace=tuple(Stage(each.name, each.duration_ms, each.n_in, each.n_out, each.fallback) for each in slate.trace)
        if explain
        else UNSET,
    )


def _history_item(entry: HistoryEntry) -> HistoryItem:
    occurred_at_ms = 0 if entry.occurred_at is None else milliseconds(entry.occurred_at)
    return HistoryItem(parse_id(entry.item_id, "history"), entry.event_type, occurred_at_ms)


def _require_at_most(values: tuple[object, ...], most: int, name: str) -> None:
    if len(values) > most:
        raise InvalidRequest(f"{name} has {len(values)} entries; at most {most} are taken", field=f"/{name}")


OPERATION = Operation(
    "POST",
    "/v1/recommendations",
    recommendations,
    "Recommendations for a user or a session",
    scope="read",
    body=RecommendationRequest,
    reply=RecommendationReply,
    problems=(401, 408, 413, 415, 422, 429, 500),
    example={"user_id": "42", "history": [{"item_id": "1270", "event_type": "view"}], "limit": 10, "explain": True},
)
