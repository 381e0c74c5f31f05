"""Every operation of the API as a value: what is sent, and how its reply is read. Nothing is sent here."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import msgspec

from serving.item_schemas import ItemReply
from serving.schemas import (
    AssignmentReply,
    ErasureReply,
    HealthReply,
    HistoryEntry,
    ItemDeletion,
    ItemDeletionReply,
    ItemUpsert,
    ItemUpsertReply,
    RankRequest,
    RecommendationReply,
    RecommendationRequest,
    RefineRequest,
    SearchRequest,
    TraceReply,
    UserBlock,
    UserBlockReply,
    UserErase,
    UsersMerge,
    UsersMergeReply,
)

R = TypeVar("R")
JSON = "application/json"
NDJSON = "application/x-ndjson"


class Listed(TypedDict, total=False):
    """What every list may be asked for.

    `filter` is an expression over the items' columns; where nothing matches it, other items are answered with, unless
    `strict_filtering`. `surface` names a section of the service's configuration.
    """

    limit: int
    filter: str | None
    strict_filtering: bool
    user_id: str | None
    surface: str | None
    page_token: str | None


class Asked(Listed, total=False):
    """What every request with a body may say besides: who it is for, in which context, and how it is answered.

    `history` is of this session, oldest first. `validate_only` checks everything and answers with nothing.
    """

    session_id: str | None
    history: Sequence[HistoryEntry]
    context: Mapping[str, Any] | None
    exclude_item_ids: Sequence[str]
    explain: bool
    validate_only: bool


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One request.

    Attributes:
        read: decodes the body of a reply. Raises msgspec.MsgspecError or UnicodeDecodeError.
        is_repeatable: made twice, it has the effect and the reply of once.
    """

    method: str
    path: str
    read: Callable[[bytes], R]
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    media_type: str = JSON
    is_repeatable: bool = True


_SLATE = msgspec.json.Decoder(RecommendationReply).decode
_UPSERTED = msgspec.json.Decoder(ItemUpsertReply).decode
_ITEM = msgspec.json.Decoder(ItemReply).decode
_DELETED = msgspec.json.Decoder(ItemDeletionReply).decode
_BLOCKED = msgspec.json.Decoder(UserBlockReply).decode
_MERGED = msgspec.json.Decoder(UsersMergeReply).decode
_ERASED = msgspec.json.Decoder(ErasureReply).decode
_ASSIGNMENT = msgspec.json.Decoder(AssignmentReply).decode
_TRACE = msgspec.json.Decoder(TraceReply).decode
_HEALTH = msgspec.json.Decoder(HealthReply).decode


def recommendations(**asked: Unpack[Asked]) -> Call[RecommendationReply]:
    return Call("POST", "/v1/recommendations", _SLATE, body=_json(RecommendationRequest, asked))


def rank(item_ids: Sequence[str], **asked: Unpack[Asked]) -> Call[RecommendationReply]:
    return Call("POST", "/v1/rank", _SLATE, body=_json(RankRequest, asked, item_ids=tuple(item_ids)))


def search(
    text: str | None,
    *,
    image: bytes | None,
    item_id: str | None,
    vector: Sequence[float] | None,
    modality: str,
    personalise: float | None,
    **asked: Unpack[Asked],
) -> Call[RecommendationReply]:
    """Raises ValueError unless exactly one of `text`, `image`, `item_id` and `vector` is given."""
    n_given = sum(each is not None for each in (text, image, item_id, vector))
    if n_given != 1:
        raise ValueError(f"search with exactly one of text, image, item_id and vector, not {n_given}")
    body = _json(
        SearchRequest,
        asked,
        text=text,
        image_base64=None if image is None else picture(image),
        item_id=item_id,
        vector=None if vector is None else tuple(vector),
        modality=modality,
        personalise=_or_unset(personalise),
    )
    return Call("POST", "/v1/search", _SLATE, body=body)


def refine(
    item_id: str, text: str, *, weight: float, personalise: float | None, **asked: Unpack[Asked]
) -> Call[RecommendationReply]:
    given = {"item_id": item_id, "text": text, "weight": weight, "personalise": _or_unset(personalise)}
    return Call("POST", "/v1/refine", _SLATE, body=_json(RefineRequest, asked, **given))


def similar(item_id: str, number: int | None = None, **listed: Unpack[Listed]) -> Call[RecommendationReply]:
    return Call("GET", "/v1/similar", _SLATE, params=_params({"item_id": item_id, "object": number, **listed}))


def popular(category: str | None, **listed: Unpack[Listed]) -> Call[RecommendationReply]:
    return Call("GET", "/v1/popular", _SLATE, params=_params({"category": category, **listed}))


def trending(**listed: Unpack[Listed]) -> Call[RecommendationReply]:
    return Call("GET", "/v1/trending", _SLATE, params=_params(listed))


def get_item(item_id: str, surface: str | None) -> Call[ItemReply]:
    return Call("GET", "/v1/item", _ITEM, params=_params({"item_id": item_id, "surface": surface}))


def upsert_item(item: ItemUpsert) -> Call[ItemUpsertReply]:
    return Call("POST", "/v1/items", _UPSERTED, body=msgspec.json.encode(item))


def delete_items(item_ids: Sequence[str]) -> Call[ItemDeletionReply]:
    return Call("POST", "/v1/items:delete", _DELETED, body=msgspec.json.encode(ItemDeletion(tuple(item_ids))))


def block_items(user_id: str, item_ids: Sequence[str]) -> Call[UserBlockReply]:
    return Call("POST", "/v1/users:block", _BLOCKED, body=msgspec.json.encode(UserBlock(user_id, tuple(item_ids))))


def unblock_items(user_id: str, item_ids: Sequence[str]) -> Call[UserBlockReply]:
    return Call("POST", "/v1/users:unblock", _BLOCKED, body=msgspec.json.encode(UserBlock(user_id, tuple(item_ids))))


def merge_users(source_user_id: str, target_user_id: str) -> Call[UsersMergeReply]:
    """Not repeated: a second merge is a later one, and takes what the source did in between."""
    body = msgspec.json.encode(UsersMerge(source_user_id, target_user_id))
    return Call("POST", "/v1/users:merge", _MERGED, body=body, is_repeatable=False)


def erase_user(user_id: str) -> Call[ErasureReply]:
    """Not repeated: the receipt of a second erasure counts nothing."""
    body = msgspec.json.encode(UserErase(user_id))
    return Call("POST", "/v1/users:erase", _ERASED, body=body, is_repeatable=False)


def trace(recommendation_id: str) -> Call[TraceReply]:
    return Call("GET", f"/v1/recommendations/{quote(recommendation_id, safe='')}/trace", _TRACE)


def variants(user_id: str | None, session_id: str | None, surface: str | None) -> Call[AssignmentReply]:
    asked = {"user_id": user_id, "session_id": session_id, "surface": surface}
    return Call("GET", "/v1/experiments/assignment", _ASSIGNMENT, params=_params(asked))


def health() -> Call[HealthReply]:
    """Not repeated, as the two that follow: who asks wants to know how things are now."""
    return Call("GET", "/healthz", _HEALTH, is_repeatable=False)


def ready() -> Call[HealthReply]:
    return Call("GET", "/readyz", _HEALTH, is_repeatable=False)


def metrics() -> Call[str]:
    return Call("GET", "/metrics", bytes.decode, is_repeatable=False)


def picture(data: bytes) -> str:
    """The bytes of a PNG, JPEG or WebP file as `image_base64` wants them.

    >>> picture(b"PNG")
    'UE5H'
    """
    return b64encode(data).decode()


def _json(kind: type[msgspec.Struct], asked: Mapping[str, Any], **given: Any) -> bytes:
    """What is not given is not sent: an older service refuses fields that it does not know."""
    return msgspec.json.encode(kind(**asked, **given))


def _params(listed: Mapping[str, Any]) -> dict[str, str]:
    """As a query string has them: "true" and "false", and nothing for what is None."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in listed.items()
        if value is not None
    }


def _or_unset(value: float | None) -> float | msgspec.UnsetType:
    return msgspec.UNSET if value is None else value
