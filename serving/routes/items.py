"""POST /v1/items: a new or changed item, recommendable from its content within a second, in every worker."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from embeddings.item_text import item_text
from recsys.catalog import ITEM_FIELDS, CatalogItem, validate_item
from recsys.errors import InvalidRequest, StoreUnavailable
from recsys.live import CatalogView
from recsys.ports import ContentEncoder, LiveItem
from serving.bodies import json_reply, read_body
from serving.operations import Operation
from serving.schemas import ItemUpsert, ItemUpsertReply, decode, milliseconds
from serving.service import Service, service_of

# They name files beside the catalogue: a request can neither set nor clear them.
FILE_FIELDS = ("image", "audio")
_DECODER = msgspec.json.Decoder(ItemUpsert)


@dataclass(frozen=True)
class Content:
    """Vectors float32 [D_m] and their embedding spaces, by modality."""

    vectors: Mapping[str, NDArray[np.float32]]
    space_ids: Mapping[str, str]


async def upsert_item(request: Request) -> Response:
    """Writes an item, with vectors of its text and picture."""
    service = service_of(request)
    service.encoding.require_room()
    body = await read_body(request, service.settings.serving.limits.max_item_bytes)
    return json_reply(await service.encoding.run(lambda: upsert(service, body, datetime.now(UTC))))


def upsert(service: Service, body: bytes, now: datetime) -> ItemUpsertReply:
    """Check, encode, write, and take it into this process's view; the other workers poll.

    Raises:
        InvalidRequest: a field is wrong, or the picture is none.
        StoreUnavailable: it is not known whether it was written; send it again.
    """
    asked = decode(_DECODER, body)
    picture = _picture(asked, service.settings.serving.limits.max_image_bytes)
    service.releases.refresh_live()
    view = service.releases.view
    before = service.releases.upserted(asked.item_id)
    upserted = {} if before is None else before.fields
    item, fields = _merged(asked, _fields_before(asked.item_id, before, view), upserted)
    content = _content(item, picture, before, view)
    try:
        version = service.store.upsert_items([LiveItem(item.item_id, fields, content.vectors, content.space_ids)])
    except StoreUnavailable:
        service.telemetry.store_error("upsert_items")
        raise
    service.telemetry.upserted()
    service.releases.refresh_live(at_least=version)
    reasons = _reasons_against(item, content, service.releases.view, now)
    modalities = tuple(sorted(content.vectors))
    return ItemUpsertReply(item.item_id, version, modalities, not reasons, reasons)


def _picture(asked: ItemUpsert, max_bytes: int) -> bytes | None:
    if asked.image_base64 is UNSET:
        return None
    try:
        picture = base64.b64decode(asked.image_base64.encode(), validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"image_base64 is not base64: {error}", field="/image_base64") from None
    if len(picture) > max_bytes:
        raise InvalidRequest(f"the picture has {len(picture)} bytes; at most {max_bytes}", field="/image_base64")
    return picture


def _fields_before(item_id: str, before: LiveItem | None, view: CatalogView | None) -> dict[str, Any]:
    """The fields as the release knows them with what was upserted since; {} for a new item."""
    row = None if view is None else view.row(item_id)
    known: Mapping[str, Any] = {} if before is None else before.fields
    if view is not None and row is not None:
        known = view.fields(row)
    fields = {name: known[name] for name in ITEM_FIELDS if known.get(name) is not None}
    if isinstance(fields.get("attributes"), str):  # a column of the catalogue: JSON text
        fields["attributes"] = json.loads(fields["attributes"])
    return fields


def _merged(
    asked: ItemUpsert, before: Mapping[str, Any], upserted: Mapping[str, Any]
) -> tuple[CatalogItem, dict[str, Any]]:
    """The item as it shall be, checked; and the fields to store: those of this upsert over those of earlier ones."""
    given = {name: getattr(asked, name) for name in ITEM_FIELDS}
    given = {name: value for name, value in given.items() if value is not UNSET}
    item = validate_item({**{name: value for name, value in before.items() if name not in FILE_FIELDS}, **given})
    as_json = item.to_json()
    return item, {**upserted, **{name: as_json[name] for name in given}}


def _content(item: CatalogItem, picture: bytes | None, before: LiveItem | None, view: CatalogView | None) -> Content:
    """Vectors of the item's text and picture; without a new picture an earlier upsert's vector stays."""
    vectors: dict[str, NDArray[np.float32]] = {}
    space_ids: dict[str, str] = {}
    if before is not None and "image" in before.vectors:
        vectors["image"], space_ids["image"] = before.vectors["image"], before.space_ids["image"]
    encoder = None if view is None else view.release.content_encoder
    if view is not None and encoder is not None and "text" in encoder.space_ids:
        template = view.release.schema.text_template
        text = item_text(item.title, item.description, item.categories, item.attributes, template)
        if text is not None:
            vectors["text"], space_ids["text"] = encoder.encode_text(text), encoder.space_ids["text"]
    if picture is not None:
        vectors["image"], space_ids["image"] = _encoded_picture(encoder, picture)
    return Content(vectors, space_ids)


def _encoded_picture(encoder: ContentEncoder | None, picture: bytes) -> tuple[NDArray[np.float32], str]:
    if encoder is None or "image" not in encoder.space_ids:
        raise InvalidRequest("no release with an image encoder is loaded; leave it out", field="/image_base64")
    try:
        return encoder.encode_image(picture), encoder.space_ids["image"]
    except InvalidRequest as error:
        raise InvalidRequest(str(error), field="/image_base64") from None


def _reasons_against(item: CatalogItem, content: Content, view: CatalogView | None, now: datetime) -> tuple[str, ...]:
    """Why slates do not show it now; empty when they may."""
    now_ms = milliseconds(now)
    row = None if view is None else view.row(item.item_id)
    is_new = view is not None and row is not None and row >= view.release.n_items
    against = {
        "there is no release yet": view is None,
        "it is written, but could not be read back yet": view is not None and row is None,
        "hidden": item.hidden,
        "available_from lies ahead": item.available_from is not None and milliseconds(item.available_from) > now_ms,
        "available_until is past": item.available_until is not None and milliseconds(item.available_until) <= now_ms,
        "nothing is known of its content: send title, description or image_base64": is_new and not content.vectors,
    }
    return tuple(reason for reason, holds in against.items() if holds)


OPERATION = Operation(
    "POST",
    "/v1/items",
    upsert_item,
    "A new or changed item",
    scope="admin",
    body=ItemUpsert,
    reply=ItemUpsertReply,
    problems=(401, 408, 413, 415, 422, 429, 500, 503),
    example={"item_id": "new-1", "title": "Alien: Romulus (2024)", "categories": ["Horror", "Sci-Fi"]},
)
