"""The text of an item: one function, used by the jobs and by the service, so that both encode the same words."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence


def item_text(title: str | None, description: str | None, categories: Sequence[str] = ()) -> str | None:
    """`<title>. <category>, <category>. <description>` without the parts that are missing; None when all are.

    Title and categories come first, because encoders cut long texts at the end. The result is normalised.
    """
    named = normalise_text(", ".join(category for category in categories if category))
    parts = [normalise_text(title or ""), named, normalise_text(description or "")]
    sentences = [part if part.endswith((".", "!", "?", "。", "！", "？")) else f"{part}." for part in parts if part]
    return " ".join(sentences) or None


def normalise_text(text: str) -> str:
    """Unicode NFC, every run of white space one space, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def text_hash(text: str) -> str:
    """Content hash of a text: hex sha256 of its normalised form in UTF-8."""
    return hashlib.sha256(normalise_text(text).encode("utf-8", "replace")).hexdigest()


def bytes_hash(content: bytes) -> str:
    """Content hash of a file: hex sha256 of its bytes."""
    return hashlib.sha256(content).hexdigest()
