"""GET /v1/items/{item_id} and, for ids that a path cannot hold, GET /v1/item?item_id=: an item as it is now, with its
tags and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import InvalidRequest, NotFound
from recsys.fields import parse_id
from recsys.filtering import FilterConfig
from recsys.live import CatalogView
from recsys.tags import tags_of
from recsys.times import to_ms
from serving.access import OPEN
from serving.bodies import Reply, json_reply
from serving.envelope import GRANT
from serving.errors import problem
from serving.item_schemas import ItemObject, ItemReply, ItemTag
from serving.operations import Operation
from serving.query_strings import SURFACE, asked_by
from serving.schemas import ID_SCHEMA
from serving.service import service_of
from serving.shown import NOT_FOR_APPLICATIONS, reasons_against

PROBLEMS = (404, 422, 429, 500, 503)
ITEM_ID = {"name": "item_id", "required": True, "schema": ID_SCHEMA}
RETRY_S = 2


async def get_item(request: Request) -> Reply | Response:
    """The item in the path."""
    return await _answer(request, request.path_params["item_id"])


async def get_item_by_query(request: Request) -> Reply | Response:
    """The item in the query string."""
    item_id = request.query_params.get("item_id")
    if item_id is None:
        raise InvalidRequest("name an item: /v1/item?item_id=ID", field="/item_id")
    return await _answer(request, item_id)


async def _answer(request: Request, item_id: str) -> Reply | Response:
    """Raises NotFound: nobody knows it, or it is one that applications are not told about, and the key is theirs."""
    service = service_of(request)
    item_id = parse_id(item_id, "item_id")
    surface = asked_by(request, (SURFACE,), {"item_id"}).surface
    config = service.surfaces().resolve(surface).recommender.filter
    view, sees_all = service.releases.view, "admin" in request.scope.get(GRANT, OPEN).scopes
    if view is None:
        headers = {"Retry-After": str(RETRY_S)}
        return problem(503, "no release is loaded yet; send the same again", kind="not-ready", headers=headers)
    now_ms = to_ms(datetime.now(UTC))
    return json_reply(await service.requests.run(lambda: item_reply(view, item_id, config, now_ms, sees_all=sees_all)))


def item_reply(view: CatalogView, item_id: str, config: FilterConfig, now_ms: int, *, sees_all: bool) -> ItemReply:
    """Raises NotFound, as `_answer` does; one for whoever may see everything where nobody knows it."""
    row = view.row(item_id)
    against = {} if row is None else reasons_against(view, row, config, now_ms)
    if row is None or (not sees_all and NOT_FOR_APPLICATIONS & against.keys()):
        raise NotFound("there is no such item", field="/item_id")
    fields = view.fields(row)
    attributes = _attributes(fields.get("attributes"))
    return ItemReply(
        item_id=item_id,
        title=fields.get("title"),
        description=fields.get("description"),
        categories=tuple(fields.get("categories") or ()),
        image=fields.get("image"),
        audio=fields.get("audio"),
        price=fields.get("price"),
        available_from=_moment(fields.get("available_from")),
        available_until=_moment(fields.get("available_until")),
        hidden=bool(fields.get("hidden")),
        attributes=attributes,
        tags=_tags(view, row, tags_of(fields.get("tags"), attributes.get("tags")) or []),
        tags_unsure=tuple(fields.get("tags_unsure") or ()),
        unjudged=view.unjudged(row),
        objects=_objects(view, row),
        release=view.release.release_id,
        shown=not against,
        reasons=tuple(against.values()),
    )


def _objects(view: CatalogView, row: int) -> tuple[ItemObject, ...]:
    """None of a picture that is not the item's any more."""
    objects = view.release.objects
    if objects is None or "image" in view.unjudged(row):
        return ()
    return tuple(
        ItemObject(each["object"], each["tag"], each["confidence"], (each["x0"], each["y0"], each["x1"], each["y1"]))
        for each in objects.told(row)
    )


def _tags(view: CatalogView, row: int, has: list[Any]) -> tuple[ItemTag, ...]:
    """What models and people say, then the rest of what the item has: its catalogue says so."""
    details = view.release.tag_details
    said = [_said(each) for each in details.of(row)] if details is not None and row < view.release.n_items else []
    names = {each.tag for each in said}
    return (*said, *(ItemTag(tag, "yes", 1.0, "catalogue") for tag in has if isinstance(tag, str) and tag not in names))


def _said(row: Mapping[str, Any]) -> ItemTag:
    evidence = row["evidence"]
    return ItemTag(
        row["tag"],
        row["verdict"],
        row["confidence"],
        row["by"],
        row["head"],
        row["model"],
        row["version"],
        row["at"],
        None if evidence is None else msgspec.json.decode(evidence),
    )


def _attributes(value: Any) -> dict[str, Any]:
    """From a column of the catalogue, which is JSON text, or from an upsert."""
    if isinstance(value, str):
        return dict(msgspec.json.decode(value))
    return dict(value) if isinstance(value, Mapping) else {}


def _moment(value: Any) -> str | None:
    """RFC 3339; an upsert's as it was sent."""
    return None if value is None else str(msgspec.to_builtins(value))


OPERATIONS = (
    Operation(
        "GET",
        "/v1/items/{item_id}",
        get_item,
        "An item as it is now, with its tags",
        scope="read",
        lane="slow",
        reply=ItemReply,
        parts=(ItemTag, ItemObject),
        parameters=({**ITEM_ID, "in": "path"}, SURFACE),
        problems=PROBLEMS,
    ),
    Operation(
        "GET",
        "/v1/item",
        get_item_by_query,
        "An item as it is now, for ids that a path cannot hold",
        scope="read",
        lane="slow",
        reply=ItemReply,
        parameters=({**ITEM_ID, "in": "query"}, SURFACE),
        problems=PROBLEMS,
    ),
)
