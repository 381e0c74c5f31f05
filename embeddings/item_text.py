"""The texts of items and users: one function each, used by whoever encodes, so that all encode the same words."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def item_text(title: str | None, description: str | None, categories: Sequence[str] = ()) -> str | None:
    """`<title>. <category>, <category>. <description>` without the parts that are missing; None when all are.

    Title and categories come first, because encoders cut long texts at the end. The result is normalised.
    """
    named = normalise_text(", ".join(category for category in categories if category))
    return _sentences([normalise_text(title or ""), named, normalise_text(description or "")])


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
    ended = (part if part.endswith((".", "!", "?", "。", "！", "？")) else f"{part}." for part in parts if part)
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
