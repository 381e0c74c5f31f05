"""What the API takes and gives. Unknown fields are refused by name; types are strict, so nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from recsys.events import EPOCH
from recsys.types import SlateItem
from serving.errors import in_our_words

Id = Annotated[str, Meta(min_length=1, max_length=256, description="Any UTF-8 but control characters.")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone.")]
Position = Annotated[int, Meta(ge=0, le=1_000_000)]


class HistoryEntry(Struct, forbid_unknown_fields=True):
    """One interaction of this session, not yet known to the service as an event."""

    item_id: Id
    event_type: Name = "interaction"
    occurred_at: Moment | None = None


class RecommendationRequest(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/recommendations; every field may be left out.

    `history` is oldest first. `context`, `surface`, `filter`, `strict_filtering`, `page_token` and `validate_only` are
    refused until their features are there.
    """

    user_id: Id | None = None
    session_id: Id | None = None
    history: tuple[HistoryEntry, ...] = ()
    context: dict[str, Any] | None = None
    surface: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 20
    filter: str | None = None
    exclude_item_ids: tuple[Id, ...] = ()
    strict_filtering: bool = False
    page_token: str | None = None
    explain: bool = False
    validate_only: bool = False


class RecommendedItem(Struct):
    """One item; `value` ranks it, the larger the better. `parts`, on `explain`, add up to `value`."""

    item_id: str
    value: float
    source: str
    reasons: tuple[str, ...]
    position: int
    parts: Mapping[str, float] | UnsetType = UNSET


class Stage(Struct):
    """What one stage of the request did; `fallback` is empty when all went well."""

    name: str
    duration_ms: float
    n_in: int
    n_out: int
    fallback: str


class RecommendationReply(Struct):
    """A slate. `degraded` names the stages that fell back, `missing_ids` the ids that the catalogue does not know."""

    recommendation_id: str
    items: tuple[RecommendedItem, ...]
    release: str
    variants: Mapping[str, str]
    degraded: tuple[str, ...]
    missing_ids: tuple[str, ...]
    next_page_token: str | None
    trace: tuple[Stage, ...] | UnsetType = UNSET


class Event(Struct, forbid_unknown_fields=True):
    """Something a user did with an item. A second event with one `event_id` is a duplicate."""

    event_id: Id
    user_id: Id
    item_id: Id
    occurred_at: Moment
    event_type: Name = "interaction"
    value: float | None = None
    recommendation_id: Id | None = None
    position: Position | None = None
    context: dict[str, Any] = {}


RawEvent = Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Event"})]


class EventBatch(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/events:batch. Each event is judged alone: a bad one never stops a good one."""

    events: Annotated[list[RawEvent], Meta(extra_json_schema={"maxItems": 1000})]


class EventStatusReply(Struct, omit_defaults=True):
    """`status` is accepted, duplicate or rejected, then with `reason` and `field`."""

    status: str
    event_id: str | None = None
    reason: str = ""
    field: str = ""


class EventBatchReply(Struct):
    """One status for each event, in order."""

    statuses: list[EventStatusReply]
    accepted: int
    duplicate: int
    rejected: int
    missing_ids: tuple[str, ...]


class ItemUpsert(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/items. Fields left out stay what they were, null clears one.

    Over HTTP a picture comes as bytes (PNG, JPEG or WebP) in `image_base64`; `image` and `audio` name files, and are
    refused here.
    """

    item_id: Id
    title: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    categories: list[str] | UnsetType | None = UNSET
    image: str | UnsetType | None = UNSET
    audio: str | UnsetType | None = UNSET
    price: float | UnsetType | None = UNSET
    available_from: Moment | UnsetType | None = UNSET
    available_until: Moment | UnsetType | None = UNSET
    hidden: bool | UnsetType = UNSET
    attributes: dict[str, Any] | UnsetType | None = UNSET
    image_base64: str | UnsetType = UNSET


class ItemUpsertReply(Struct):
    """What became of an item.

    `modalities` are the kinds of content that place it among the others. `recommendable` says whether slates may show
    it now; `reasons` say why not, or what is missing.
    """

    item_id: str
    version: int
    modalities: tuple[str, ...]
    recommendable: bool
    reasons: tuple[str, ...]


class SimilarReply(Struct):
    """Items like one item, best first."""

    item_id: str
    items: tuple[RecommendedItem, ...]
    release: str
    degraded: tuple[str, ...]
    missing_ids: tuple[str, ...]


class HealthReply(Struct, omit_defaults=True):
    """`status` is ok, ready, degraded or not_ready."""

    status: str
    release: str | None = None
    n_items: int | None = None
    reasons: tuple[str, ...] = ()


T = TypeVar("T")


def recommended(item: SlateItem, *, explain: bool) -> RecommendedItem:
    """An item of a slate as replies show it; its parts only where they were asked for."""
    parts = item.parts if explain else UNSET
    return RecommendedItem(item.item_id, item.value, item.source, item.reasons, item.position, parts)


def decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    """`data` as the decoder's type. Raises InvalidRequest with the field at fault."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise in_our_words(error) from None


def milliseconds(moment: datetime) -> int:
    """UTC milliseconds since 1970, rounded down, of any moment with a zone."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


class TracedItem(Struct):
    """An item of an answered slate: where it came from, and the parts of its value where the request asked for them."""

    item_id: str
    position: int
    value: float
    source: str
    reasons: tuple[str, ...]
    propensity: float
    parts: Mapping[str, float]


class TraceReply(Struct):
    """What became of one request. `dropped` says how many candidates each hard rule took out."""

    recommendation_id: str
    finished_at: datetime
    release: str
    surface: str
    variants: Mapping[str, str]
    degraded: tuple[str, ...]
    missing_ids: tuple[str, ...]
    stages: tuple[Stage, ...]
    dropped: Mapping[str, int]
    items: tuple[TracedItem, ...]
