"""How an item's text is put together from its fields: a template such as `{title}. {categories}. {description}.`"""

from __future__ import annotations

from functools import lru_cache
from string import Formatter
from typing import NamedTuple

from recsys.errors import ConfigError

DEFAULT_TEMPLATE = "{title}. {categories}. {attributes}. {description}."
# What releases without a template in their serving.json were made with.
FIRST_TEMPLATE = "{title}. {categories}. {description}."
FIELDS = ("title", "description", "categories", "attributes")
_ONE_ATTRIBUTE = "attributes."
_CLOSING = ")]}»”’\"'"


class Part(NamedTuple):
    """One field of a template and the words around it that go when it is missing.

    Attributes:
        before: what stands between the part before and this field.
        field: one of `FIELDS`, or None for what stands behind the last field.
        attribute: its name where one attribute is wanted.
        behind: closing brackets and quotes right behind the field.
    """

    before: str
    field: str | None
    attribute: str | None = None
    behind: str = ""


@lru_cache(maxsize=64)
def parse_template(template: str) -> tuple[Part, ...]:
    """The parts of a template in order; the last one has no field.

    Raises:
        ConfigError: a field is unknown or none is named, or braces do not fit.
    """
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        braces = "write {{ and }} for braces in the text"
        raise ConfigError(f"the text template {template!r}: {error}; {braces}") from None
    parts: list[Part] = []
    before = ""
    for literal, name, format_spec, conversion in pieces:
        before += literal
        if name is None:  # braces that stand for themselves
            continue
        if format_spec or conversion:
            raise ConfigError(f"the text template {template!r}: write {{{name}}} without a format")
        parts = [*_closed(parts, before), _part(_opening(parts, before), name, template)]
        before = ""
    if not parts:
        raise ConfigError(f"the text template {template!r} names no field; {_known()}")
    return (*_closed(parts, before), Part(_opening(parts, before), None))


def _closed(parts: list[Part], literal: str) -> list[Part]:
    """The parts, the last one with the closing brackets that `literal` begins with."""
    if not parts:
        return parts
    closing = literal[: len(literal) - len(literal.lstrip(_CLOSING))]
    return [*parts[:-1], parts[-1]._replace(behind=closing)]


def _opening(parts: list[Part], literal: str) -> str:
    return literal.lstrip(_CLOSING) if parts else literal


def _part(before: str, name: str, template: str) -> Part:
    if name in FIELDS:
        return Part(before, name)
    attribute = name.removeprefix(_ONE_ATTRIBUTE)
    if name.startswith(_ONE_ATTRIBUTE) and attribute:
        return Part(before, "attributes", attribute)
    raise ConfigError(f"the text template {template!r} names {name!r}; {_known()}")


def _known() -> str:
    fields = ", ".join(f"{{{field}}}" for field in FIELDS)
    return f"its fields are {fields}, and {{attributes.colour}} for one attribute"
