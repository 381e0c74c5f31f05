"""POST /v1/search: by words, a picture, an item or a vector. POST /v1/refine: like an item, but different."""

from __future__ import annotations

import hashlib
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
from recsys.expressions.parsing import parse
from recsys.fields import parse_id
from recsys.live import CatalogView
from recsys.ports import RequestStore
from recsys.recommender import RecommenderConfig, Surroundings
from recsys.search import Wanted, by_title, of_item, refined, search, spaces_shared_with
from recsys.types import Query, Slate
from serving.bodies import Reply, read_body
from serving.comparatives import read_out
from serving.operations import Operation
from serving.pictures import decoded_base64
from serving.queries import Question, question_of, replied
from serving.schemas import Asking, RecommendationReply, RefineRequest, SearchRequest, decode
from serving.service import STARTED, Answer, Service, service_of

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
    if view is not None and not question.validate_only:
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
            query = replace(question.query, exclude_item_ids=(*question.query.exclude_item_ids, asked.item_id), limit=1)
            return _nothing(query)
        return _over(view, partial(search, replace(of_item(row, view), personalise=personalise), question.query))
    if asked.vector is not None:
        wanted = _by_vector(asked.vector, asked.modality, view)
        return _over(view, partial(search, replace(wanted, personalise=personalise), question.query))
    content: Mapping[str, Floats] = {}
    try:
        content = await _encoded(asked, view, service, timeout_s)
    except (EncoderUnavailable, Overloaded, ArtifactError):
        if asked.text is None:
            raise
    if not content and asked.text is not None:
        return _over(view, partial(by_title, asked.text, question.query))
    return _over(view, partial(search, Wanted(content, personalise=personalise), question.query))


async def _encoded(asked: SearchRequest, view: CatalogView, service: Service, timeout_s: float) -> Mapping[str, Floats]:
    """modality → vector, in every space that the words or the picture can be compared in; none for words that say
    nothing."""
    release = view.release
    kind = "text" if asked.text is not None else "image"
    names = [name for name in spaces_shared_with(kind, release) if name in release.content_indexes]
    if not names:
        raise InvalidRequest(f"this release has no {kind} vectors to search among", field=f"/{kind}")
    if asked.text is not None:
        vector = await service.content.encode_text(asked.text, release_id=release.release_id, timeout_s=timeout_s)
    else:
        picture = _picture(asked.image_base64 or "", service)
        vector = await service.content.encode_image(picture, release_id=release.release_id, timeout_s=timeout_s)
    if not np.any(vector) and asked.text is None:
        raise InvalidRequest("the picture says nothing that can be compared", field="/image_base64")
    return dict.fromkeys(names, vector) if np.any(vector) else {}


def _by_vector(values: tuple[float, ...], modality: str, view: CatalogView) -> Wanted:
    vector = np.array(values, dtype=np.float32)
    release = view.release
    widths = {each.name: each.vectors.shape[1] for each in release.modalities if each.name in release.content_indexes}
    if release.schema.has_towers:
        widths[ITEM] = release.item_vectors.shape[1]
    if modality not in widths:
        known = ", ".join(sorted(widths)) or "none"
        raise InvalidRequest(f"this release holds no vectors of {modality}; there are: {known}", field="/modality")
    if len(vector) != widths[modality]:
        message = f"a vector of {modality} has {widths[modality]} numbers, not {len(vector)}"
        raise InvalidRequest(message, field="/vector")
    if not (np.isfinite(vector).all() and vector.any()):
        raise InvalidRequest("the vector must hold finite numbers, not all of them 0", field="/vector")
    return Wanted(item_vector=vector) if modality == ITEM else Wanted({modality: vector})


async def refine(request: Request) -> Reply:
    """Items like one item, but as the words say."""
    service = service_of(request)
    asked = decode(_REFINE, await read_body(request, service.settings.serving.limits.max_request_bytes))
    item_id = parse_id(asked.item_id, "item_id")
    view = service.releases.view
    row = None if view is None else view.row(item_id)
    read_as, words = read_out(asked.text, view.fields(row)) if view is not None and row is not None else ("", "")
    question = question_of(_filtered(asked, read_as), service, "refine", (item_id, asked.text, asked.weight))
    if view is None or row is None:
        named = replace(question.query, exclude_item_ids=(*question.query.exclude_item_ids, item_id))
        make = _nothing(named)
    else:
        vectors = await _words(words, view, service, _timeout_s(request, service)) if words else {}
        wanted = refined(of_item(row, view), vectors, asked.weight)
        wanted = replace(wanted, personalise=_personalise(asked, asked.personalise))
        make = _over(view, partial(search, wanted, question.query))
    budget_ms = service.settings.serving.budgets.search_ms
    return await replied(request, service, question, make, budget_ms=budget_ms, read_as=read_as)


async def _words(words: str, view: CatalogView, service: Service, timeout_s: float) -> Mapping[str, Floats]:
    """The vector of the words for each modality of their space."""
    release = view.release
    names = [name for name in spaces_shared_with("text", release) if name in release.content_indexes]
    if not names:
        return {}
    vector = await service.content.encode_text(words, release_id=release.release_id, timeout_s=timeout_s)
    return dict.fromkeys(names, vector)


def _filtered(asked: RefineRequest, read_as: str) -> RefineRequest:
    """With what was read out of the words beside the request's own filter."""
    if not read_as:
        return asked
    if asked.filter:
        parse(asked.filter)  # so that a fault in it is told of it alone
        return msgspec.structs.replace(asked, filter=f"({asked.filter}) and {read_as}")
    return msgspec.structs.replace(asked, filter=read_as)


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


def _nothing(query: Query) -> Answer:
    """The answer to somebody who names an item that is not known."""

    def answer(
        catalog: CatalogView,
        store: RequestStore,
        config: RecommenderConfig,
        around: Surroundings,
        budget: Budget,
    ) -> Slate:
        missing = tuple(each for each in query.exclude_item_ids if catalog.row(each) is None)
        return Slate(
            query.recommendation_id, (), catalog.release.release_id, variants=query.variants, missing_ids=missing
        )

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
        body=RefineRequest,
        reply=RecommendationReply,
        problems=(408, 413, 415, 422, 429, 500, 503),
        example={"item_id": "1270", "text": "newer and darker", "user_id": "42", "limit": 10},
    ),
)
