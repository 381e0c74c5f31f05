"""GET /v1/popular and GET /v1/trending: the same for everybody, but for what one user may not be shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from starlette.requests import Request

from recsys.budget import Budget
from recsys.errors import InvalidRequest
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.rank_items import Floats, Rows, list_items
from recsys.recommender import RecommenderConfig, Surroundings
from recsys.retrieval import SourceName
from recsys.types import Slate
from serving.bodies import Reply
from serving.operations import Operation
from serving.queries import Question, question_of, replied
from serving.query_strings import CATEGORY, FILTER, LIMIT, PAGE_TOKEN, STRICT, SURFACE, USER_ID, asked_by
from serving.schemas import RecommendationReply
from serving.service import Service, service_of

COMMON = (LIMIT, FILTER, STRICT, USER_ID, SURFACE, PAGE_TOKEN)
PROBLEMS = (422, 429, 500)
MAX_CATEGORY = 256
RowsOf = Callable[[CatalogView], tuple[Rows, Floats | None]]


async def popular_items(request: Request) -> Reply:
    """What most people took, of one category or of all."""
    service = service_of(request)
    category = request.query_params.get("category")
    if category is not None and not 0 < len(category) <= CATEGORY["schema"]["maxLength"]:
        raise InvalidRequest(
            "category is the name of one, 1 to 256 characters; leave it out for all", field="/category"
        )
    question = question_of(asked_by(request, COMMON, {"category"}), service, "popular", category)
    return await _listed(request, service, question, "popular", lambda catalog: _popular(catalog, category))


async def trending_items(request: Request) -> Reply:
    """What is taken most just now."""
    service = service_of(request)
    question = question_of(asked_by(request, COMMON), service, "trending")
    return await _listed(request, service, question, "trending", service.trends.weighted)


async def _listed(request: Request, service: Service, question: Question, source: SourceName, rows_of: RowsOf) -> Reply:
    def make(
        catalog: CatalogView,
        store: RequestStore,
        config: RecommenderConfig,
        around: Surroundings,
        budget: Budget,
    ) -> Slate:
        rows, values = rows_of(catalog)
        return list_items(rows, values, source, question.query, catalog, store, config, around)

    budget_ms = service.settings.serving.budgets.recommendations_ms
    return await replied(request, service, question, make, budget_ms=budget_ms)


def _popular(catalog: CatalogView, category: str | None) -> tuple[Rows, None]:
    """Rows by falling popularity; none of a category that is not there."""
    release = catalog.release
    if category is None:
        return release.popular_rows, None
    names = release.category_lists.names
    if category not in names:
        return np.empty(0, np.int64), None
    return release.category_lists.popular_in(names.index(category), release.n_items), None


OPERATIONS = (
    Operation(
        "GET",
        "/v1/popular",
        popular_items,
        "What most people took",
        scope="read",
        reply=RecommendationReply,
        parameters=(CATEGORY, *COMMON),
        problems=PROBLEMS,
    ),
    Operation(
        "GET",
        "/v1/trending",
        trending_items,
        "What is taken most just now",
        scope="read",
        reply=RecommendationReply,
        parameters=COMMON,
        problems=PROBLEMS,
    ),
)
