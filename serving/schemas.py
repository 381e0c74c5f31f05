"""What the API takes and gives. Unknown fields are refused by name; types are strict, so nothing is guessed.

The service and its client share these, so nothing is imported here but msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

# What the code after the decoder sees to, so that its words say more than the decoder's: written in the document alone.
PLAIN = {"pattern": r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s][^\x00-\x1f\x7f-\x9f]*$"}
Id = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="Any UTF-8 but control characters; not blanks alone.",
        extra_json_schema=PLAIN,
    ),
]
ID_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 256, **PLAIN}
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone.")]
Position = Annotated[int, Meta(ge=0, le=1_000_000)]


class Problem(Struct, omit_defaults=True):
    """One error (RFC 9457). `type` is a URN that names the kind, `field` a JSON pointer to the part at fault."""

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""


class HistoryEntry(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One interaction of this session, not yet known to the service as an event."""

    item_id: Id
    event_type: Name = "interaction"
    occurred_at: Moment | None = None


Limit = Annotated[int, Meta(ge=1, le=500)]
FilterText = Annotated[
    str,
    Meta(
        max_length=4096,
        description='Which items may be answered with: `categories has "Comedy" and attributes.year >= 1995`.',
    ),
]
SurfaceName = Annotated[str, Meta(min_length=1, max_length=64)]
Share = Annotated[float, Meta(ge=0, le=1)]
Picture = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class Asking(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What every request for items may say; all of it may be left out.

    `history` is of this session, oldest first. `surface` names a section of the service's configuration. Where nothing
    matches `filter`, the answer holds other items, and `degraded` says "filter"; with `strict_filtering` it is empty.
    `page_token` is `next_page_token` of the page before, sent with otherwise the same request. `validate_only` checks
    everything and answers with nothing.
    """

    user_id: Id | None = None
    session_id: Id | None = None
    history: Annotated[tuple[HistoryEntry, ...], Meta(extra_json_schema={"maxItems": 1000})] = ()
    context: dict[str, Any] | None = None
    surface: SurfaceName | None = None
    limit: Limit | UnsetType = UNSET
    filter: FilterText | None = None
    exclude_item_ids: Annotated[tuple[Id, ...], Meta(extra_json_schema={"maxItems": 10_000})] = ()
    strict_filtering: bool = False
    page_token: str | None = None
    explain: bool = False
    validate_only: bool = False


class RecommendationRequest(Asking, forbid_unknown_fields=True):
    """Body of POST /v1/recommendations; every field may be left out."""


class RankRequest(Asking, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/rank: the items to put in order. Those that may not be shown are left out; seen ones are not."""

    item_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)]


class SearchRequest(Asking, forbid_unknown_fields=True):
    """Body of POST /v1/search: what is searched with, exactly one of `text`, `image_base64` (PNG, JPEG or WebP),
    `item_id` and `vector` (of `modality`'s embedding space).

    `personalise` is the share of the person in the value: 0.2 where there is a user or a history.
    """

    text: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    image_base64: Picture | None = None
    item_id: Id | None = None
    vector: Annotated[tuple[float, ...], Meta(min_length=1, max_length=8192)] | None = None
    modality: Name = "text"
    personalise: Share | UnsetType = UNSET


class RefineRequest(Asking, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/refine: "like this item, but ...": vector arithmetic, a filter and the person in one call.

    `text` says how the items shall differ, with `weight` of the words against the item. "cheaper", "dearer", "newer"
    and "older" in it become a filter on price and attributes.year where the item has them; the reply's `filter` shows
    it.
    """

    item_id: Id
    text: Annotated[str, Meta(min_length=1, max_length=2000)]
    weight: Share = 0.5
    personalise: Share | UnsetType = UNSET


class RecommendedItem(Struct, gc=False):
    """One item; `value` ranks it, the larger the better. `propensity` is the probability that it was shown there, where
    the surface explores. On `explain`, `parts` add up to `value`, and `because` names the history items that mattered
    most."""

    item_id: str
    value: float
    source: str
    reasons: tuple[str, ...]
    position: int
    propensity: float | UnsetType = UNSET
    parts: Mapping[str, float] | UnsetType = UNSET
    because: tuple[str, ...] | UnsetType = UNSET


class Stage(Struct):
    """What one stage of the request did; `fallback` is empty when all went well."""

    name: str
    duration_ms: float
    n_in: int
    n_out: int
    fallback: str


class RecommendationReply(Struct):
    """A slate. `degraded` names the stages that fell back, `missing_ids` the ids that the catalogue does not know.

    `next_page_token` is null on the last page. `filter`, on refine, is what was read out of the words; `trace` comes on
    `explain`.
    """

    recommendation_id: str
    items: tuple[RecommendedItem, ...]
    release: str
    variants: Mapping[str, str]
    degraded: tuple[str, ...]
    missing_ids: tuple[str, ...]
    next_page_token: str | None
    filter: str | UnsetType = UNSET
    trace: tuple[Stage, ...] | UnsetType = UNSET


class Event(Struct, forbid_unknown_fields=True, omit_defaults=True):
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

    status: Annotated[str, Meta(extra_json_schema={"enum": ["accepted", "duplicate", "rejected"]})]
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


Category = Annotated[str, Meta(extra_json_schema={"maxLength": 256})]


class ItemUpsert(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Body of POST /v1/items. Fields left out stay what they were, null clears one.

    Over HTTP a picture comes as bytes (PNG, JPEG or WebP) in `image_base64`; `image` and `audio` name files, and are
    refused here.
    """

    item_id: Id
    title: Annotated[str, Meta(extra_json_schema={"maxLength": 2_000})] | UnsetType | None = UNSET
    description: Annotated[str, Meta(extra_json_schema={"maxLength": 100_000})] | UnsetType | None = UNSET
    categories: Annotated[list[Category], Meta(extra_json_schema={"maxItems": 200})] | UnsetType | None = UNSET
    image: str | UnsetType | None = UNSET
    audio: str | UnsetType | None = UNSET
    price: Annotated[float, Meta(extra_json_schema={"minimum": 0})] | UnsetType | None = UNSET
    available_from: Moment | UnsetType | None = UNSET
    available_until: Moment | UnsetType | None = UNSET
    hidden: bool | UnsetType = UNSET
    attributes: dict[str, Any] | UnsetType | None = UNSET
    image_base64: Picture | UnsetType = UNSET


class ItemLine(ItemUpsert, forbid_unknown_fields=True):
    """One line of POST /v1/items:batch: an item as in POST /v1/items, or `{"item_id": "...", "delete": true}`."""

    delete: bool = False


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


class ItemDeletion(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/items:delete."""

    item_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)]


class ItemDeletionReply(Struct):
    """`missing_ids` were known neither to the catalogue nor to the store; they are deleted all the same."""

    deleted: int
    version: int
    missing_ids: tuple[str, ...]


class ItemLineStatus(Struct, omit_defaults=True):
    """What became of one line, by its number from 0: `status` is accepted, deleted or rejected, then with `reason`."""

    line: int
    status: Annotated[str, Meta(extra_json_schema={"enum": ["accepted", "deleted", "rejected"]})]
    item_id: str | None = None
    reason: str = ""
    field: str = ""


class ItemBatchReply(Struct):
    """One status for each line that is not empty, in order."""

    statuses: list[ItemLineStatus]
    accepted: int
    deleted: int
    rejected: int
    version: int


class UsersMerge(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/users:merge: somebody who was anonymous is known now; their history goes to the target."""

    source_user_id: Id
    target_user_id: Id


class UsersMergeReply(Struct):
    """`interactions` is how many of the latest the target has now."""

    target_user_id: str
    interactions: int


class UserErase(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/users:erase."""

    user_id: Id


class ErasureReply(Struct):
    """A receipt: `erased` counts what is gone by place, `remains` says what is not and when it goes. `user_hash` stands
    for the user's id, which is kept nowhere."""

    user_hash: str
    erased_at: Moment
    erased: Mapping[str, int]
    remains: tuple[str, ...]


class UserBlock(Struct, forbid_unknown_fields=True):
    """Body of POST /v1/users:block: never show these items to this user again; of /v1/users:unblock: do again."""

    user_id: Id
    item_ids: Annotated[tuple[Id, ...], Meta(min_length=1, max_length=1000)]


class UserBlockReply(Struct):
    """`blocked` is how many items this user is not shown now."""

    blocked: int


class AssignmentReply(Struct):
    """The variant of each experiment that a request with these ids on this surface is part of just now."""

    variants: Mapping[str, str]


class HealthReply(Struct, omit_defaults=True):
    """`status` is ok, ready or degraded."""

    status: Annotated[str, Meta(extra_json_schema={"enum": ["ok", "ready", "degraded"]})]
    release: str | None = None
    n_items: int | None = None
    reasons: tuple[str, ...] = ()


class TracedItem(Struct):
    """An item of an answered slate: where it came from, and the parts of its value where the request asked for them."""

    item_id: str
    position: int
    value: float
    source: str
    reasons: tuple[str, ...]
    propensity: float
    parts: Mapping[str, float]
    because: tuple[str, ...]


class TraceReply(Struct):
    """What became of one request. `dropped` says how many candidates each hard rule took out."""

    recommendation_id: str
    finished_at: Moment
    release: str
    surface: str
    variants: Mapping[str, str]
    degraded: tuple[str, ...]
    missing_ids: tuple[str, ...]
    stages: tuple[Stage, ...]
    dropped: Mapping[str, int]
    items: tuple[TracedItem, ...]
