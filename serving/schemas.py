"""What the API takes and gives. Unknown fields are refused by name; types are strict, so nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

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


class EventBatch(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/events:batch. Each event is judged alone: a bad one never stops a good one."""

    events: list[msgspec.Raw]


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
    """Body of POST /v1/items: the whole item as it shall be from now on.

    `image` and `audio` are paths in files only: over HTTP a picture comes as bytes in `image_base64`; without it an
    item that came after the release keeps the picture it had.
    """

    item_id: Id
    title: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    image: str | None = None
    audio: str | None = None
    price: float | None = None
    available_from: Moment | None = None
    available_until: Moment | None = None
    hidden: bool = False
    attributes: dict[str, Any] | None = None
    image_base64: str | None = None


class ItemUpsertReply(Struct):
    """`modalities` are the kinds of content it is known by; `recommendable` says whether slates may show it now."""

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


def decode(decoder: msgspec.json.Decoder[T], data: bytes | msgspec.Raw) -> T:
    """`data` as the decoder's type. Raises InvalidRequest with the field at fault."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise in_our_words(error) from None
