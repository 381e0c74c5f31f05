"""From the body of a request for items to a `Query`, and from a `Slate` to the reply: the same for every route."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from msgspec import UNSET
from starlette.requests import Request

from recsys.errors import InvalidRequest
from recsys.events import hash64
from recsys.experiments import assign
from recsys.expressions.evaluation import require_known
from recsys.expressions.parsing import parse
from recsys.fields import parse_id, parse_object
from recsys.recommender import RecommenderConfig
from recsys.serving_config import LimitsConfig
from recsys.surfaces import NO_VARIANTS, Surfaces
from recsys.times import to_ms
from recsys.types import HistoryItem, Query, Slate, SlateItem
from serving.bodies import Reply, json_reply
from serving.pages import MAX_ITEMS, MAX_ITEMS_IN_URL, Page, asked_digest
from serving.recent_traces import TRACED
from serving.schemas import Asking, HistoryEntry, RecommendationReply, RecommendedItem, Stage
from serving.service import STARTED, Answer, Service

DEFAULT_LIMIT = 20
A = TypeVar("A", bound=Asking)


@dataclass(frozen=True, slots=True)
class Question:
    """A request for items, checked.

    Attributes:
        config: of its surface, with the variants of the experiments that it is part of.
        page: where the recommendation stands that it goes on with.
        asked: digest of who asked and for what, to which page tokens are bound.
    """

    query: Query
    config: RecommenderConfig
    page: Page
    asked: bytes
    validate_only: bool


def question_of(asked: Asking, service: Service, kind: str, of: object = None, *, also: str = "") -> Question:
    """The question that a decoded body asks.

    Args:
        kind: of the route; a page token of one is none of another.
        of: what else it asks for, such as the words of a search.
        also: a filter beside the request's own; page tokens are not bound to it.

    Raises:
        InvalidRequest: a field is wrong; it is named.
    """
    limits = service.settings.serving.limits
    now = datetime.now(UTC)
    user_id = None if asked.user_id is None else parse_id(asked.user_id, "user_id")
    session_id = None if asked.session_id is None else parse_id(asked.session_id, "session_id")
    surfaces = service.surfaces()
    variants = variants_of(asked, surfaces, now)
    surface = surfaces.resolve(asked.surface, variants)
    limit = _limit(asked, surface.limit or DEFAULT_LIMIT, limits)
    _require_at_most(asked.history, limits.max_history, "history")
    _require_at_most(asked.exclude_item_ids, limits.max_exclude, "exclude_item_ids")
    canonical = _filter(asked.filter, service) if asked.filter else ""
    recommendation_id = os.urandom(16).hex()
    digest = asked_digest(kind, of, asked.user_id, asked.session_id, asked.history, asked.surface, canonical)
    page = Page(recommendation_id, 0, NO_ITEMS)
    if asked.page_token:
        page = service.tokens.read(asked.page_token, digest, int(time.time()))
    both = f"({canonical}) and ({also})" if canonical and also else canonical or also
    query = Query(
        recommendation_id=recommendation_id,
        now=now,
        user_id=user_id,
        session_id=session_id,
        history=tuple(map(_history_item, asked.history)) if asked.history else (),
        exclude_item_ids=tuple(parse_id(item_id, "exclude_item_ids") for item_id in asked.exclude_item_ids),
        limit=limit,
        explain=asked.explain,
        seed=hash64(recommendation_id),
        surface=asked.surface,
        filter=both,
        strict_filtering=asked.strict_filtering,
        paged=page.shown,
        context=parse_object(asked.context, "context") if asked.context else {},
        variants=variants,
    )
    return Question(query, surface.recommender, page, digest, asked.validate_only)


def variants_of(asked: Asking, surfaces: Surfaces, now: datetime) -> Mapping[str, str]:
    """Experiment → variant; without experiments it costs nothing."""
    return assign(surfaces.experiments, asked, now) if surfaces.experiments else NO_VARIANTS


NO_ITEMS = Query("", datetime(1970, 1, 1, tzinfo=UTC)).paged


async def replied(
    request: Request,
    service: Service,
    question: Question,
    make: Answer,
    *,
    budget_ms: float,
    in_thread: bool = False,
    read_as: str = "",
    has_pages: bool = True,
) -> Reply:
    """The reply to a question.

    Args:
        read_as: a filter that was read out of its words.
        has_pages: False where one page holds everything that was asked for.
    """
    if question.validate_only:
        return json_reply(EMPTY)
    slate = await service.answer(
        question.query,
        make,
        question.config,
        budget_ms=budget_ms,
        started=request.scope.get(STARTED),
        in_thread=in_thread,
    )
    request.scope[TRACED] = service.traces.get(slate.recommendation_id)
    token = None
    if has_pages and len(slate.items) == question.query.limit:
        most = MAX_ITEMS_IN_URL if request.method == "GET" else MAX_ITEMS
        token = service.tokens.write(question.page, question.asked, slate.item_hashes, int(time.time()), most)
    return json_reply(reply_of(slate, token, explain=question.query.explain, read_as=read_as))


def reply_of(slate: Slate, token: str | None, *, explain: bool, read_as: str = "") -> RecommendationReply:
    return RecommendationReply(
        slate.recommendation_id,
        tuple([recommended(item, explain=explain) for item in slate.items]),
        slate.release,
        slate.variants,
        slate.degraded,
        slate.missing_ids,
        token,
        read_as or UNSET,
        tuple([Stage(each.name, each.duration_ms, each.n_in, each.n_out, each.fallback) for each in slate.trace])
        if explain
        else UNSET,
    )


def recommended(item: SlateItem, *, explain: bool) -> RecommendedItem:
    """An item of a slate as replies show it; its parts only where they were asked for."""
    propensity = UNSET if item.propensity == 1.0 else item.propensity
    if not explain:
        return RecommendedItem(item.item_id, item.value, item.source, item.reasons, item.position, propensity)
    return RecommendedItem(
        item.item_id, item.value, item.source, item.reasons, item.position, propensity, item.parts, item.because
    )


EMPTY = RecommendationReply("", (), "", {}, (), (), None)


def _limit(asked: Asking, default: int, limits: LimitsConfig) -> int:
    limit = min(default, limits.max_limit) if asked.limit is UNSET else asked.limit
    if limit > limits.max_limit:
        raise InvalidRequest(f"limit is at most {limits.max_limit}", field="/limit")
    return limit


def _filter(text: str, service: Service) -> str:
    """The expression in one form, checked against the catalogue that serves."""
    expression = parse(text)
    view = service.releases.view
    if view is not None:
        require_known(expression, view)
    return str(expression)


def _history_item(entry: HistoryEntry) -> HistoryItem:
    occurred_at_ms = 0 if entry.occurred_at is None else to_ms(entry.occurred_at)
    return HistoryItem(parse_id(entry.item_id, "history"), entry.event_type, occurred_at_ms)


def _require_at_most(values: tuple[object, ...], most: int, name: str) -> None:
    if len(values) > most:
        raise InvalidRequest(f"{name} has {len(values)} entries; at most {most} are taken", field=f"/{name}")
