"""Words that compare, as in "like this, but cheaper": read as a filter against the item; the rest are plain words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

PRICE, YEAR = "price", "attributes.year"
# What the words say of which column; the longer ones first, for "less expensive" holds "expensive".
_WORDS: tuple[tuple[str, str, str], ...] = (
    (r"less expensive", PRICE, "<"),
    (r"more expensive", PRICE, ">"),
    (r"cheaper", PRICE, "<"),
    (r"dearer", PRICE, ">"),
    (r"pricier", PRICE, ">"),
    (r"newer", YEAR, ">"),
    (r"more recent", YEAR, ">"),
    (r"older", YEAR, "<"),
)
_JOINS = re.compile(r"^\W*(?:(?:and|but|or)\b\W*)*|(?:\W*\b(?:and|but|or))*\W*$", re.IGNORECASE)


def read_out(text: str, fields: Mapping[str, Any]) -> tuple[str, str]:
    """The filter that the words mean for an item with these fields, "" where they mean none, and the words without it.

    A word about something that the item does not have stays among the words.
    """
    clauses = []
    for word, column, sign in _WORDS:
        bound = _number(column, fields)
        found = re.search(rf"\b{word}\b", text, re.IGNORECASE)
        if found is not None and bound is not None:
            clauses.append(f"{column} {sign} {json.dumps(bound)}")
            text = f"{text[: found.start()]} {text[found.end() :]}"
    return " and ".join(clauses), _JOINS.sub("", re.sub(r"\s+", " ", text)).strip()


def _number(column: str, fields: Mapping[str, Any]) -> float | None:
    value: Any = fields.get("price")
    if column == YEAR:
        attributes = fields.get("attributes")
        attributes = json.loads(attributes) if isinstance(attributes, str) else attributes
        value = attributes.get("year") if isinstance(attributes, Mapping) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number and value is not None else None
