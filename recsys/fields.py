"""Single values at the border: ids, texts and JSON objects, each checked by one rule for files and requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from recsys.quarantine import Reason, RowRefused
from recsys.types import MAX_ID_CHARACTERS

MAX_ATTRIBUTES_BYTES = 65_536
MAX_NESTING = 64  # what is accepted at one stack depth must be readable at another: parsers recurse
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def parse_id(value: Any, column: str) -> str:
    """A string as it is, or an integer written out exactly; never a float."""
    if type(value) is int:
        return str(value)
    if value is None:
        raise RowRefused("missing", column, f"{column} is required and absent")
    if not isinstance(value, str):
        message = f"{column} must be a string or a whole number, not {kind_of(value)}"
        raise RowRefused(type_reason(value), column, message, value=value)
    if not value or value.isspace():
        raise RowRefused("missing", column, f"{column} is required and empty")
    if len(value) > MAX_ID_CHARACTERS:
        message = f"{column} has {len(value)} characters; at most {MAX_ID_CHARACTERS} are allowed"
        raise RowRefused("id_too_long", column, message, value=value[:MAX_ID_CHARACTERS])
    if _CONTROL.search(value):
        raise RowRefused("control_character", column, f"{column} holds a control character", value=value)
    return value


def parse_text(value: Any, column: str, max_characters: int) -> str | None:
    """Text without surrounding blanks; None where nothing is left. NUL is refused, other controls stay."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise RowRefused(type_reason(value), column, f"{column} must be text, not {kind_of(value)}", value=value)
    if "\x00" in value:
        raise RowRefused("control_character", column, f"{column} holds a NUL character", value=value)
    text = value.strip()
    if len(text) > max_characters:
        raise RowRefused("too_long", column, f"{column} has {len(text)} characters; at most {max_characters}")
    return text or None


def parse_object(value: Any, column: str) -> dict[str, Any]:
    """A JSON object with finite numbers, at most `MAX_NESTING` deep and `MAX_ATTRIBUTES_BYTES` when written."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        message = f"{column} must be a JSON object, not {kind_of(value)}"
        raise RowRefused(type_reason(value), column, message, value=value)
    try:
        _refuse_not_finite(value, column)
        encoded = encode_object(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowRefused("wrong_type", column, f"{column} cannot be written as JSON: {error}") from None
    if encoded is not None and len(encoded) > MAX_ATTRIBUTES_BYTES:
        raise RowRefused("too_long", column, f"{column} takes {len(encoded)} bytes; at most {MAX_ATTRIBUTES_BYTES}")
    return dict(value)


def encode_object(value: Mapping[str, Any]) -> str | None:
    """JSON with sorted keys; None for an empty object."""
    return msgspec.json.encode(value, order="sorted").decode() if value else None


def _refuse_not_finite(value: Any, column: str, depth: int = 0) -> None:
    if depth > MAX_NESTING:
        raise RowRefused("wrong_type", column, f"{column} is nested more than {MAX_NESTING} deep")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RowRefused("not_finite", column, f"{column} holds NaN or infinity", value=value)
    elif isinstance(value, Mapping):
        for each in value.values():
            _refuse_not_finite(each, column, depth + 1)
    elif isinstance(value, list | tuple):
        for each in value:
            _refuse_not_finite(each, column, depth + 1)


class BrokenText(bytes):
    """Stands for text whose bytes are not UTF-8, so that only its own row is refused."""


def type_reason(value: Any) -> Reason:
    """Why a value of the wrong type is refused."""
    return "broken_utf8" if isinstance(value, BrokenText) else "wrong_type"


def kind_of(value: Any) -> str:
    """What a value is, in the words of those who wrote the file."""
    names = {str: "text", bool: "true or false", int: "a whole number", float: "a fraction", list: "a list"}
    names |= {dict: "an object", BrokenText: "text that is not UTF-8", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)
