"""POST /v1/search: by words, a picture, an item or a vector. POST /v1/refine: like an item, but different."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from starlette.requests import Request

from recsys.budget import Budget
from recsys.errors import ArtifactError, EncoderUnavailable, InvalidRequest, Overloaded
from recsys.fields import parse_id
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.recommender import RecommenderConfig, Surroundings
from recsys.search import Wanted, by_title, of_item, refined, search, spaces_shared_with
from recsys.types import Query, Slate
from serving.bodies import Reply, decode, read_body
from serving.comparatives import read_out
from serving.operations import Operation
from serving.pictures import FIELD as PICTURE
from serving.pictures import decoded_base64
from serving.queries import Question, question_of, replied
from serving.schemas import Asking, RecommendationReply, RefineRequest, SearchRequest
from serving.service import STARTED, Answer, Service, service_of
from serving.telemetry import log

Floats = NDArray[np.float32]
PERSONAL_SHARE = 0.2
ENCODER_SHARE = 0.8  # of what is left of the budget that encoding may take
ITEM = "item"  # the space of item vectors, among the modalities
WAYS = ("text", "image_base64", "item_id", "vector")
_SEARCH = msgspec.json.Decoder(SearchRequest)
_REFINE = msgspec.json.Decoder(RefineRequest)


async def search_items(request: Request) -> Reply:
    """Items that match, personalised where there is somebody to do it for."""
    service = service_of(request)
    asked = decode(_SEARCH, await read_body(request, service.settings.serving.limits.max_item_bytes))
    given = [name for name in WAYS if getattr(asked, name) is not None]
    if len(given) != 1:
        raise InvalidRequest(f"search with exactly one of {', '.join(WAYS)}, not {len(given)}")
    question = question_of(asked, service, "search", _digest(asked))
    view = service.releases.view
    make: Answer = partial(search, Wanted(), question.query)  # without a release nothing is asked
    if view is not None and not (question.validate_only and asked.vector is None):  # nothing is encoded to validate
        make = await _search(asked, question, view, service, _timeout_s(request, service))
    elif asked.image_base64 is not None:
        _picture(asked.image_base64, service)
    return await replied(request, service, question, make, budget_ms=service.settings.serving.budgets.search_ms)


async def _search(
    asked: SearchRequest, question: Question, view: CatalogView, service: Service, timeout_s: float
) -> Answer:
    personalise = _personalise(asked, asked.personalise)
    if asked.item_id is not None:
        row = view.row(parse_id(asked.item_id, "item_id"))
        if row is None:
            return _nothing(question.query, asked.item_id)
        return _over(view, partial(search, replace(of_item(row, view), personalise=personalise), question.query))
    if asked.vector is not None:
        wanted = _by_vector(asked.vector, asked.modality, view)
        return _over(view, partial(search, replace(wanted, personalise=personalise), question.query))
    if asked.text is None:
        content = await _of_picture(_picture(asked.image_base64 or "", service), view, service, timeout_s)
    else:
        content = await _of_words(asked.text, view, service, timeout_s)
        if not content:
            return _over(view, partial(by_title, asked.text, question.query))
    return _over(view, partial(search, Wanted(content, personalise=personalise), question.query))


async def _of_words(words: str, view: CatalogView, service: Service, timeout_s: float) -> Mapping[str, Floats]:
    """modality → vector, in every space that the words can be compared in; none where they say nothing, or nobody can
    encode them now."""
    release = view.release
    names = _compared_with("text", view)
    if not names:
        return {}
    try:
        vector = await service.content.encode_text(words, release_id=release.release_id, timeout_s=timeout_s)
    except (EncoderUnavailable, Overloaded, ArtifactError) as error:
        level = logging.ERROR if isinstance(error, ArtifactError) else logging.DEBUG
        log(level, "the words of a search could not be encoded", why=f"{type(error).__name__}: {error}")
        return {}
    return dict.fromkeys(names, vector) if np.any(vector) else {}


async def _of_picture(picture: bytes, view: CatalogView, service: Service, timeout_s: float) -> Mapping[str, Floats]:
    """The same of a picture, for which there is nothing to fall back to."""
    names = _compared_with("image", view)
    if not names:
        raise InvalidRequest("this release has no pictures to search among: search by text", field=PICTURE)
    release_id = view.release.release_id
    try:
        vector = await service.content.encode_image(picture, release_id=release_id, timeout_s=timeout_s)
    except InvalidRequest as error:
        raise InvalidRequest(str(error), field=PICTURE) from None
    if not np.any(vector):
        raise InvalidRequest("the picture says nothing that can be compared", field=PICTURE)
    return dict.fromkeys(names, vector)


def _compared_with(kind: str, view: CatalogView) -> list[str]:
    """The modalities that can be searched with what this release's encoder makes of texts or pictures."""
    encoder = view.release.content_encoder
    if encoder is None or kind not in encoder.space_ids:
        return []
    return [name for name in spaces_shared_with(kind, view.release) if name in view.release.content_indexes]


def _by_vector(values: tuple[float, ...], modality: str, view: CatalogView) -> Wanted:
    release = view.release
    widths = {each.name: each.vectors.shape[1] for each in release.modalities if each.name in release.content_indexes}
    if release.schema.has_towers:
        widths[ITEM] = release.item_vectors.shape[1]
    if modality not in widths:
        known = ", ".join(sorted(widths)) or "none"
        raise InvalidRequest(f"this release holds no vectors of {modality}; there are: {known}", field="/modality")
    if len(values) != widths[modality]:
        message = f"a vector of {modality} has {widths[modality]} numbers, not {len(values)}"
        raise InvalidRequest(message, field="/vector")
    exact = np.array(values, dtype=np.float64)
    largest = float(np.abs(exact).max())
    if not 0 < largest < math.inf:
        raise InvalidRequest("the vector must hold finite numbers, not all of them 0", field="/vector")
    # Of length 1: in 32 bits the squares of very large or small numbers are infinite, or nothing.
    unit = exact / largest
    vector = (unit / np.linalg.norm(unit)).astype(np.float32)
    return Wanted(item_vector=vector) if modality == ITEM else Wanted({modality: vector})


async def refine(request: Request) -> Reply:
    """Items like one item, but as the words say."""
    service = service_of(request)
    asked = decode(_REFINE, await read_body(request, service.settings.serving.limits.max_request_bytes))
    item_id = parse_id(asked.item_id, "item_id")
    view = service.releases.view
    row = None if view is None else view.row(item_id)
    read_as, words = read_out(asked.text, view.fields(row)) if view is not None and row is not None else ("", "")
    of = (item_id, asked.text, asked.weight, asked.personalise)
    question = question_of(asked, service, "refine", of, also=read_as)
    if view is None or row is None:
        make = _nothing(question.query, item_id)
    else:
        encodes = bool(words) and not question.validate_only
        vectors = await _of_words(words, view, service, _timeout_s(request, service)) if encodes else {}
        wanted = refined(of_item(row, view), vectors, asked.weight)
        wanted = replace(wanted, personalise=_personalise(asked, asked.personalise))
        make = _over(view, partial(search, wanted, question.query))
        make = _without_words(make) if words and not vectors else make
    budget_ms = service.settings.serving.budgets.search_ms
    return await replied(request, service, question, make, budget_ms=budget_ms, read_as=read_as)


def _over(view: CatalogView, make: Answer) -> Answer:
    """Over the view that the vectors were made for, unless only items have changed since."""

    def answer(
        catalog: CatalogView,
        store: RequestStore,
        config: RecommenderConfig,
        around: Surroundings,
        budget: Budget,
    ) -> Slate:
        same = catalog.release is view.release
        return make(catalog if same else view, store, config, around, budget)

    return answer


def _without_words(make: Answer) -> Answer:
    """The same answer, which says that the words had no part in it."""

    def answer(
        catalog: CatalogView,
        store: RequestStore,
        config: RecommenderConfig,
        around: Surroundings,
        budget: Budget,
    ) -> Slate:
        slate = make(catalog, store, config, around, budget)
        return slate if "encode" in slate.degraded else replace(slate, degraded=("encode", *slate.degraded))

    return answer


def _nothing(query: Query, item_id: str) -> Answer:
    """The answer to somebody who names an item that is not known."""

    def answer(
        catalog: CatalogView,
        store: RequestStore,
        config: RecommenderConfig,
        around: Surroundings,
        budget: Budget,
    ) -> Slate:
        history = (each.item_id for each in query.history)
        named = dict.fromkeys((*history, *query.exclude_item_ids, item_id))
        missing = tuple(each for each in named if each == item_id or catalog.row(each) is None)
        release_id = catalog.release.release_id
        return Slate(query.recommendation_id, (), release_id, variants=query.variants, missing_ids=missing)

    return answer


def _personalise(asked: Asking, given: float | msgspec.UnsetType) -> float:
    if given is not UNSET:
        return given
    return PERSONAL_SHARE if asked.user_id or asked.history else 0.0


def _picture(image_base64: str, service: Service) -> bytes:
    return decoded_base64(image_base64, service.settings.serving.limits.max_image_bytes)


def _timeout_s(request: Request, service: Service) -> float:
    started = request.scope.get(STARTED)
    spent_ms = 0.0 if started is None else (time.perf_counter() - started) * 1e3
    return max(service.settings.serving.budgets.search_ms - spent_ms, 1.0) * ENCODER_SHARE / 1e3


def _digest(asked: SearchRequest) -> str:
    """What is searched with, in a few bytes."""
    picture = None if asked.image_base64 is None else hashlib.sha256(asked.image_base64.encode()).hexdigest()
    return repr((asked.text, picture, asked.item_id, asked.vector, asked.modality, asked.personalise))


OPERATIONS = (
    Operation(
        "POST",
        "/v1/search",
        search_items,
        "Search by words, a picture, an item or a vector",
        scope="read",
        lane="slow",
        body=SearchRequest,
        reply=RecommendationReply,
        problems=(408, 413, 415, 422, 429, 500, 503),
        example={"text": "a space adventure", "filter": 'categories has "Sci-Fi"', "user_id": "42", "limit": 10},
    ),
    Operation(
        "POST",
        "/v1/refine",
        refine,
        "Like an item, but as the words say",
        scope="read",
        lane="slow",
        body=RefineRequest,
        reply=RecommendationReply,
        problems=(408, 413, 415, 422, 429, 500, 503),
        example={"item_id": "1270", "text": "newer and darker", "user_id": "42", "limit": 10},
    ),
)
