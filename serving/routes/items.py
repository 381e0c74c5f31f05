"""Items, one or many: new or changed ones are recommendable from their content within a second in every worker, deleted
ones are gone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray
from starlette.requests import Request

from embeddings.item_text import item_text
from recsys.catalog import ITEM_FIELDS, CatalogItem, validate_item
from recsys.errors import InvalidRequest, StoreUnavailable, TooLarge
from recsys.fields import parse_id
from recsys.live import CatalogView
from recsys.ports import ContentEncoder, LiveItem
from recsys.times import to_ms
from serving.bodies import Reply, decode, json_reply, read_body
from serving.operations import Operation
from serving.pictures import decoded_base64
from serving.schemas import (
    ID_SCHEMA,
    ItemBatchReply,
    ItemDeletion,
    ItemDeletionReply,
    ItemLine,
    ItemLineStatus,
    ItemUpsert,
    ItemUpsertReply,
)
from serving.service import Service, service_of
from serving.shown import reasons_against

# They name files beside the catalogue: a request can neither set nor clear them.
FILE_FIELDS = ("image", "audio")
NDJSON = b"application/x-ndjson"
LINE_STATUSES = ("accepted", "deleted", "rejected")
FIELDS = tuple(name for name in ITEM_FIELDS if name != "item_id")
_DECODER = msgspec.json.Decoder(ItemUpsert)
_LINE_DECODER = msgspec.json.Decoder(ItemLine)
_DELETION_DECODER = msgspec.json.Decoder(ItemDeletion)


@dataclass(frozen=True)
class Content:
    """Vectors float32 [D_m] and their embedding spaces, by modality."""

    vectors: Mapping[str, NDArray[np.float32]]
    space_ids: Mapping[str, str]


async def upsert_item(request: Request) -> Reply:
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
    service.releases.refresh_live()
    view = service.releases.view
    prepared = _prepared(asked, service.releases.upserted(asked.item_id), view, service)
    version = _written(service, [prepared.live])
    reasons = _reasons_against(prepared.item, prepared.content, service.releases.view, now)
    reasons += _blocked(asked.item_id, service, now)
    modalities = tuple(sorted(prepared.content.vectors))
    return ItemUpsertReply(asked.item_id, version, modalities, not reasons, reasons)


async def upsert_items(request: Request) -> Reply:
    """Writes or deletes many items, one JSON object a line; a bad line never stops a good one."""
    service = service_of(request)
    service.encoding.require_room()
    body = await read_body(request, service.settings.serving.limits.max_items_bytes, NDJSON)
    return json_reply(await service.encoding.run(lambda: upsert_lines(service, body)))


def upsert_lines(service: Service, body: bytes) -> ItemBatchReply:
    """The good lines are one write.

    Raises:
        TooLarge: more lines than one batch may have.
        StoreUnavailable: nothing is acknowledged; the same batch may be sent again.
    """
    lines = [(number, line) for number, line in enumerate(body.split(b"\n")) if line.strip()]
    most = service.settings.serving.limits.max_items
    if len(lines) > most:
        raise TooLarge(f"{len(lines)} lines; a batch has at most {most}")
    service.releases.refresh_live()
    view = service.releases.view
    before: dict[str, LiveItem | None] = {}
    written: dict[str, LiveItem] = {}
    statuses = [_line_status(number, line, before, written, view, service) for number, line in lines]
    version = _written(service, list(written.values())) if written else service.releases.live_version
    counts = {status: sum(each.status == status for each in statuses) for status in LINE_STATUSES}
    return ItemBatchReply(statuses, **counts, version=version)


def _line_status(
    number: int,
    line: bytes,
    before: dict[str, LiveItem | None],
    written: dict[str, LiveItem],
    view: CatalogView | None,
    service: Service,
) -> ItemLineStatus:
    """Take one line into `written`; later lines of one item build on the earlier ones."""
    item_id: str | None = None
    try:
        asked = decode(_LINE_DECODER, line)
        item_id = parse_id(asked.item_id, "item_id")
        earlier = written.get(item_id) or service.releases.upserted(item_id)
        if asked.delete:
            if any(getattr(asked, name) is not UNSET for name in (*FIELDS, "image_base64")):
                raise InvalidRequest("a line that deletes holds item_id and delete alone", field="/delete")
            written.pop(item_id, None)
            written[item_id] = LiveItem(item_id, {}, {}, {}, deleted=True)
            return ItemLineStatus(number, "deleted", item_id)
        live = _prepared(asked, earlier, view, service).live
        written.pop(item_id, None)
        written[item_id] = live
        return ItemLineStatus(number, "accepted", item_id)
    except InvalidRequest as error:
        return ItemLineStatus(number, "rejected", item_id, str(error), error.field)


async def delete_item(request: Request) -> Reply:
    """Takes the item in the path off everything."""
    service = service_of(request)
    item_ids = (parse_id(request.path_params["item_id"], "item_id"),)
    return json_reply(await service.encoding.run(lambda: delete(service, item_ids)))


async def delete_items(request: Request) -> Reply:
    """Takes items off everything."""
    service = service_of(request)
    body = await read_body(request, service.settings.serving.limits.max_request_bytes)
    item_ids = tuple(parse_id(each, "item_ids") for each in decode(_DELETION_DECODER, body).item_ids)
    return json_reply(await service.encoding.run(lambda: delete(service, item_ids)))


def delete(service: Service, item_ids: Sequence[str]) -> ItemDeletionReply:
    """Gone from this process's answers at once, from the other workers' at their next poll. Raises StoreUnavailable."""
    service.releases.refresh_live()
    view = service.releases.view
    known = [each for each in item_ids if view is not None and view.row(each) is not None]
    missing = tuple(
        dict.fromkeys(each for each in item_ids if each not in known and not service.releases.upserted(each))
    )
    try:
        version = service.store.delete_items(item_ids)
    except StoreUnavailable:
        service.telemetry.store_error("delete_items")
        raise
    service.releases.refresh_live(at_least=version)
    return ItemDeletionReply(len(set(item_ids)), version, missing)


@dataclass(frozen=True)
class Prepared:
    """An item that may be written: as it shall be, its content, and what the store keeps."""

    item: CatalogItem
    content: Content
    live: LiveItem


def _prepared(asked: ItemUpsert, before: LiveItem | None, view: CatalogView | None, service: Service) -> Prepared:
    """Raises InvalidRequest: a field is wrong, or the picture is none."""
    picture = None
    if asked.image_base64 is not UNSET:
        picture = decoded_base64(asked.image_base64, service.settings.serving.limits.max_image_bytes)
    if before is not None and before.deleted:
        before = None  # it comes back with what is sent now, over what the catalogue says
    upserted = {} if before is None else before.fields
    item, fields = _merged(asked, _fields_before(asked.item_id, before, view), upserted)
    content = _content(item, picture, before, view)
    return Prepared(item, content, LiveItem(item.item_id, fields, content.vectors, content.space_ids))


def _written(service: Service, items: Sequence[LiveItem]) -> int:
    """The store's version after writing these, which this process's view then has. Raises StoreUnavailable."""
    try:
        version = service.store.upsert_items(items)
    except StoreUnavailable:
        service.telemetry.store_error("upsert_items")
        raise
    for _ in items:
        service.telemetry.upserted()
    service.releases.refresh_live(at_least=version)
    return version


def _fields_before(item_id: str, before: LiveItem | None, view: CatalogView | None) -> dict[str, Any]:
    """The fields as the release knows them, and over them those of `before`, which may be of an earlier line of this
    batch; {} for a new item."""
    row = None if view is None else view.release.vocabulary.row(item_id)
    of_release: Mapping[str, Any] = {} if view is None or row is None else view.released_fields(row)
    known = {**of_release, **({} if before is None else before.fields)}
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
    now_ms = to_ms(now)
    row = None if view is None else view.row(item.item_id)
    is_new = view is not None and row is not None and row >= view.release.n_items
    against = {
        "there is no release yet": view is None,
        "it is written, but could not be read back yet": view is not None and row is None,
        "hidden": item.hidden,
        "available_from lies ahead": item.available_from is not None and to_ms(item.available_from) > now_ms,
        "available_until is past": item.available_until is not None and to_ms(item.available_until) <= now_ms,
        "nothing is known of its content: send title, description or image_base64": is_new and not content.vectors,
    }
    return tuple(reason for reason, holds in against.items() if holds)


def _blocked(item_id: str, service: Service, now: datetime) -> tuple[str, ...]:
    """That it has, or may have, a tag that the configuration blocks."""
    view = service.releases.view
    row = None if view is None else view.row(item_id)
    if view is None or row is None:
        return ()
    against = reasons_against(view, row, service.surfaces().default.recommender.filter, to_ms(now))
    return (against["blocked_tag"],) if "blocked_tag" in against else ()


OPERATIONS = (
    Operation(
        "POST",
        "/v1/items",
        upsert_item,
        "A new or changed item",
        scope="admin",
        lane="slow",
        body=ItemUpsert,
        reply=ItemUpsertReply,
        problems=(408, 413, 415, 422, 429, 500, 503),
        example={"item_id": "new-1", "title": "Alien: Romulus (2024)", "categories": ["Horror", "Sci-Fi"]},
    ),
    Operation(
        "POST",
        "/v1/items:batch",
        upsert_items,
        "Many items, one JSON object a line (NDJSON)",
        scope="admin",
        lane="slow",
        body=ItemLine,
        media_type="application/x-ndjson",
        reply=ItemBatchReply,
        parts=(ItemLineStatus,),
        problems=(408, 413, 415, 422, 429, 500, 503),
    ),
    Operation(
        "POST",
        "/v1/items:delete",
        delete_items,
        "Take items off everything",
        scope="admin",
        lane="slow",
        body=ItemDeletion,
        reply=ItemDeletionReply,
        problems=(408, 413, 415, 422, 429, 500, 503),
        example={"item_ids": ["new-1"]},
    ),
    Operation(
        "DELETE",
        "/v1/items/{item_id}",
        delete_item,
        "Take one item off everything",
        scope="admin",
        lane="slow",
        reply=ItemDeletionReply,
        parameters=({"name": "item_id", "in": "path", "required": True, "schema": ID_SCHEMA},),
        problems=(422, 429, 500, 503),
    ),
)
