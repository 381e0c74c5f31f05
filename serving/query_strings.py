"""Requests for items that come as a query string: its parameters, and what they ask."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from recsys.errors import InvalidRequest
from serving.errors import in_our_words
from serving.schemas import ID_SCHEMA, Asking

Parameter = Mapping[str, Any]


def _parameter(name: str, **schema: Any) -> Parameter:
    return {"name": name, "in": "query", "schema": schema}


LIMIT = _parameter("limit", type="integer", minimum=1, maximum=500, default=20)
FILTER = _parameter("filter", type="string", maxLength=4096)
STRICT = _parameter("strict_filtering", type="boolean", default=False)
USER_ID = _parameter("user_id", **ID_SCHEMA)
SESSION_ID = _parameter("session_id", **ID_SCHEMA)
SURFACE = _parameter("surface", type="string", minLength=1, maxLength=64)
PAGE_TOKEN = _parameter("page_token", type="string")
OBJECT = _parameter("object", type="integer", minimum=0, maximum=999_999_999)
CATEGORY = _parameter("category", type="string", minLength=1, maxLength=256)


def asked_by(request: Request, parameters: Sequence[Parameter], others: Collection[str] = ()) -> Asking:
    """What a query string asks. A parameter that is not known, or comes twice, is refused: nothing is ignored.

    `others` are names of parameters that the route reads itself.
    """
    kinds = {each["name"]: each["schema"]["type"] for each in parameters}
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for name, text in request.query_params.multi_items():
        if name not in kinds and name not in others:
            raise InvalidRequest(f"there is no parameter {name[:64]}", field=f"/{name[:64]}")
        if name in seen:
            raise InvalidRequest(f"{name} comes twice", field=f"/{name}")
        seen.add(name)
        if name in Asking.__struct_fields__:
            values[name] = _value(name, text, kinds[name])
    try:
        return msgspec.convert(values, Asking)
    except msgspec.ValidationError as error:
        raise in_our_words(error) from None


def _value(name: str, text: str, kind: str) -> Any:
    if kind == "integer":
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise InvalidRequest(f"{name} must be a whole number", field=f"/{name}")
        return int(text)
    if kind == "boolean":
        if text not in ("true", "false"):
            raise InvalidRequest(f"{name} must be true or false", field=f"/{name}")
        return text == "true"
    return text
