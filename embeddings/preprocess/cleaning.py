"""Text cleaning as CLIP's tokenizers do it, without ftfy.

ftfy's character repairs are redone here with the standard library: HTML entities, terminal escapes, C1 controls,
Latin ligatures, full-width forms, curly quotes, control characters, NFC. Its guess at text decoded with the wrong
charset (mojibake) is left out: such a title is encoded as it stands.
"""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Callable
from typing import Literal

Cleaning = Literal["none", "whitespace", "lower", "canonicalize"]

_TERMINAL_ESCAPE = re.compile(r"\x1b\[[\d;]*[a-zA-Z]")
_C1_CONTROL = re.compile(r"[\x80-\x84\x86-\x9f]")
_LIGATURES = "ĲĳŉǱǲǳǄǅǆǇǈǉǊǋǌﬀﬁﬂﬃﬄﬆ"
_COMPATIBLE = {
    code: unicodedata.normalize("NFKC", chr(code))
    for code in (*map(ord, _LIGATURES), *range(0xFF01, 0xFFF0), 0x3000)
    if code not in range(0xFFEF, 0xFFF0)
}
_QUOTES = dict.fromkeys((*range(0x2018, 0x201C), 0x02BC), "'") | dict.fromkeys(range(0x201C, 0x2020), '"')
_CONTROLS = dict.fromkeys(
    (*range(0x00, 0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, cleaning: Cleaning) -> str:
    """`text` as the tokenizer wants it; "none" leaves everything to the tokenizer file."""
    # Half a surrogate pair is no character, and the tokenizers refuse it.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _CLEANERS[cleaning](whole)


def _repaired(text: str) -> str:
    if "<" not in text:  # else it is markup, whose entities are meant
        text = html.unescape(text)
    text = _TERMINAL_ESCAPE.sub("", text)
    text = _C1_CONTROL.sub(lambda match: match[0].encode("latin-1").decode("cp1252", "ignore") or match[0], text)
    text = text.translate(_COMPATIBLE | _QUOTES).translate(_CONTROLS)
    return html.unescape(html.unescape(unicodedata.normalize("NFC", text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_repaired(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    return " ".join(_repaired(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


_CLEANERS: dict[Cleaning, Callable[[str], str]] = {
    "none": str,
    "whitespace": _whitespace,
    "lower": _lower,
    "canonicalize": _canonicalize,
}
