"""The texts of items and users: one function each, used by whoever encodes, so that all encode the same words."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from recsys.item_template import DEFAULT_TEMPLATE, parse_template

MAX_ATTRIBUTE_CHARACTERS = 120
MAX_ATTRIBUTES_CHARACTERS = 400
# Names whose last word says that no person would read the value out, or that it changes while the item does not: a
# price or a stock in the text would give every item a new vector every day.
_UNSAID = re.compile(
    "ids?|uuid|guid|sku|asin|isbn|ean|gtin|upc|barcode|hash|checksum"  # names of things
    "|slug|ur[li]|links?|href|path|file|filename|image|picture|thumbnail|email|phone"  # where they are
    "|price|cost|stock|quantity|count|views|likes|sales|ratings?|score|rank"  # how they fare
    "|timestamp|created|updated|modified"
)
_NO_WORDS = re.compile(
    r"[a-z][a-z0-9+.-]*://\S*|www\.\S+|\S+@\S+\.\S+"  # links and addresses
    r"|\S+\.(jpe?g|png|webp|gif|svg|wav|mp3|ogg|flac|mp4|pdf|html?|json)"  # files
    r"|\d{8,}|[0-9a-f]{16,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # numbers of things
    r"|\d{4}-\d\d-\d\dT\S+",  # moments
    re.IGNORECASE,
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？")


def item_text(
    title: str | None,
    description: str | None,
    categories: Sequence[str] = (),
    attributes: Mapping[str, Any] | None = None,
    template: str = DEFAULT_TEMPLATE,
) -> str | None:
    """An item in words, by a template; None when no field of the template is there.

    By default `<title>. <category>, <category>. <name>: <value>. <name>: <value>. <description>.`: what is short and
    telling comes first, because encoders cut long texts at the end. A missing field takes along what stands before it
    in the template; a full stop behind a sentence that has ended is left out. The result is normalised.

    Raises:
        ConfigError: the template names an unknown field (`recsys.item_template.parse_template`).
    """
    parts = parse_template(template)
    attributes = attributes or {}
    apart = {part.attribute for part in parts if part.attribute}
    words = {
        "title": normalise_text(title or ""),
        "description": normalise_text(description or ""),
        "categories": normalise_text(", ".join(category for category in categories if category)),
        "attributes": attributes_text({name: attributes[name] for name in attributes if name not in apart}),
    }
    said = ""
    for part in parts:
        here = words.get(part.field or "", "")
        if part.attribute:
            here = _value_in_words(part.attribute, attributes.get(part.attribute))
        if here or (part.field is None and said):
            said = _continued(said, part.before) + here + part.behind
    return normalise_text(said) or None


def attributes_text(attributes: Mapping[str, Any]) -> str:
    """`<name>: <value>, <value>. <name>: <value>` in the order of the names, `_` as a space; "" when nothing is said.

    True is the name alone; False, null, empty values and nested objects are no words. Left out are names such as
    `product_id`, `image_url`, `price` and `views`, and values that are links, addresses or long hexadecimal numbers.
    Each attribute is cut at 120 characters and all together at 400, at the end of a word, so that they leave room for
    the description.
    """
    said = []
    for name in sorted(attributes):
        called = _called(name)
        if called and not _UNSAID.fullmatch(called.casefold().split()[-1]):
            value = _value_in_words(name, attributes[name])
            said.append(value if value in ("", called) else f"{called}: {value}")
    return _cut(_sentences(said) or "", MAX_ATTRIBUTES_CHARACTERS).removesuffix(".")


def _value_in_words(name: str, value: Any) -> str:
    """What one attribute says; "" for nothing."""
    if value is True:
        return _called(name)
    values = value if isinstance(value, list | tuple) else [value]
    words = [
        normalise_text(f"{each:.6g}" if isinstance(each, float) else str(each))
        for each in values
        if isinstance(each, str | int | float) and not isinstance(each, bool)
    ]
    return _cut(", ".join(word for word in words if word and not _is_noise(word)), MAX_ATTRIBUTE_CHARACTERS)


def _is_noise(word: str) -> bool:
    # What is longer is prose (or Chinese), and the pattern would be slow on it.
    return len(word) <= MAX_ATTRIBUTE_CHARACTERS and _NO_WORDS.fullmatch(word) is not None


def _called(name: str) -> str:
    return normalise_text(_HUMP.sub(" ", name).replace("_", " ").replace("-", " "))


def _continued(said: str, literal: str) -> str:
    """The text so far and what a template puts behind it, without separators at the start and doubled full stops."""
    if not said:
        return literal.lstrip(" .,;:!?-–—|/")
    return said + (literal[1:] if literal.startswith(".") and said.endswith(_SENTENCE_ENDS) else literal)


def _cut(text: str, n_characters: int) -> str:
    if len(text) <= n_characters:
        return text
    return text[: n_characters + 1].rpartition(" ")[0].rstrip(" ,;:") or text[:n_characters]


def profile_text(attributes: Mapping[str, Any], text: str | None) -> str | None:
    """`<name>: <value>, <value>. <name>: <value>. <text>` of what a user told; None when they told nothing.

    Attributes come first, because they are short and encoders cut long texts at the end; in the order of their
    names, `_` as a space. True is the name alone; False, null, empty values and nested objects are left out: they
    are no words. The result is normalised.
    """
    named = (_attribute_in_words(name, attributes[name]) for name in sorted(attributes))
    return _sentences([*named, normalise_text(text or "")])


def _attribute_in_words(name: str, value: Any) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    words = [normalise_text(str(each)) for each in values if isinstance(each, str | int | float) and each is not False]
    said = ", ".join(word for word in words if word)
    called = normalise_text(name.replace("_", " "))
    if value is True:
        return called
    return f"{called}: {said}" if said else ""


def _sentences(parts: Sequence[str]) -> str | None:
    ended = (part if part.endswith(_SENTENCE_ENDS) else f"{part}." for part in parts if part)
    return " ".join(ended) or None


def normalise_text(text: str) -> str:
    """Unicode NFC, every run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_hash(text: str) -> str:
    """Content hash of a text: hex sha256 of its normalised form in UTF-8."""
    return hashlib.sha256(normalise_text(text).encode("utf-8", "replace")).hexdigest()


def bytes_hash(content: bytes) -> str:
    """Content hash of a file: hex sha256 of its bytes."""
    return hashlib.sha256(content).hexdigest()
