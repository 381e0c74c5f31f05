"""From text to tokens, and how a text is refused: with the place at fault under a caret."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from recsys.config import Config
from recsys.errors import InvalidRequest
from recsys.expressions.syntax import Path

KEYWORDS = frozenset(("and", "or", "not", "in", "has", "any", "all", "contains", "is", "null", "true", "false"))
MOST_EXACT = 2**53 - 1
EXCERPT_CHARACTERS = 60
MAX_FOUND_CHARACTERS = 32

_STRING = r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*"'
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    rf"|(?P<text>{_STRING})"
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w.]))"
    rf"|(?P<path>[^\W\d][\w-]*(?:\.(?:[\w-]+|{_STRING}))*)"
    r"|(?P<symbol>!=|<=|>=|==|<>|[=<>(),])"
)
_PART = re.compile(rf"{_STRING}|[\w-]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HINTS = {
    "'": 'text stands in double quotes, like "red"',
    '"': "a text that does not end, or a control character or wrong escape in it: it is written as in JSON",
    "==": "write = once",
    "<>": "write !=",
    "&": "write and",
    "|": "write or",
    "!": "write not, or !=",
    ".": "a name must follow the dot, like attributes.colour; a number has a digit before it, like 0.5",
}


class ExpressionLimits(Config):
    """How large a filter may be.

    Attributes:
        max_characters: of its text.
        max_tokens: words, values and signs.
        max_depth: parentheses and `not` inside one another.
        max_values: values of one list.
        max_path_parts: names of one column, as attributes.size.width has three.
        max_text_searches: tests by `contains`, which read every text.
    """

    max_characters: int = Field(default=8_192, ge=1, le=1_000_000)
    max_tokens: int = Field(default=1_024, ge=1, le=100_000)
    max_depth: int = Field(default=24, ge=1, le=64)
    max_values: int = Field(default=256, ge=1, le=10_000)
    max_path_parts: int = Field(default=16, ge=1, le=64)
    max_text_searches: int = Field(default=8, ge=0, le=1_000)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `text` as written (keywords in lower case), `at` its place from 0, and what it stands for."""

    kind: Literal["text", "number", "path", "keyword", "symbol", "end"]
    text: str
    at: int
    value: str | float | Path = ""

    @property
    def found(self) -> str:
        """What an error says was found there."""
        return "the end" if self.kind == "end" else _shown(self.text)


@dataclass(frozen=True, slots=True)
class Source:
    """The text that is parsed, and which field of the request holds it (a JSON pointer)."""

    text: str
    field: str = "/filter"

    def refused(self, at: int, message: str) -> InvalidRequest:
        """An error that points at the character `at` (from 0), said as a column from 1."""
        first = max(0, min(at - EXCERPT_CHARACTERS // 2, len(self.text) - EXCERPT_CHARACTERS))
        last = first + EXCERPT_CHARACTERS
        before, after = ("…" if first else ""), ("…" if last < len(self.text) else "")
        excerpt = before + _printable(self.text[first:last]) + after
        caret = " " * (len(before) + at - first) + "^"
        return InvalidRequest(f"column {at + 1}: {message}\n{excerpt}\n{caret}", field=self.field)


def tokens_of(source: Source, limits: ExpressionLimits) -> list[Token]:
    """All tokens, the last of which is the end. Raises InvalidRequest."""
    text, at, tokens = source.text, 0, list[Token]()
    if len(text) > limits.max_characters:
        message = f"the filter has {len(text)} characters; at most {limits.max_characters} are allowed"
        raise source.refused(limits.max_characters, message)
    broken = _SURROGATE.search(text)
    if broken is not None:
        raise source.refused(broken.start(), "half of a surrogate pair is no character")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match[0] in _HINTS:
            raise _unreadable(source, at)
        if match.lastgroup != "space":
            if len(tokens) == limits.max_tokens:
                raise source.refused(at, f"the filter has more than the {limits.max_tokens} words and signs allowed")
            tokens.append(_token(source, match, limits))
        at = match.end()
    return [*tokens, Token("end", "", len(text))]


def _token(source: Source, match: re.Match[str], limits: ExpressionLimits) -> Token:
    text, at = match[0], match.start()
    match match.lastgroup:
        case "text":
            return Token("text", text, at, _unquoted(source, text, at))
        case "number":
            return Token("number", text, at, _number(source, text, at))
        case "path":
            if text.lower() in KEYWORDS:
                return Token("keyword", text.lower(), at)
            return Token("path", text, at, _path(source, text, at, limits))
        case _:
            return Token("symbol", text, at)


def _path(source: Source, text: str, at: int, limits: ExpressionLimits) -> Path:
    written = _PART.findall(text)
    if len(written) > limits.max_path_parts:
        message = f"the column's name has {len(written)} parts; at most {limits.max_path_parts} are allowed"
        raise source.refused(at, message)
    return tuple(_unquoted(source, part, at) if part.startswith('"') else part for part in written)


def _unquoted(source: Source, text: str, at: int) -> str:
    value = str(json.loads(text))
    if _SURROGATE.search(value):
        raise source.refused(at, "the text holds half of a surrogate pair, which is no character")
    return value


def _number(source: Source, text: str, at: int) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise source.refused(at, "the number is too large; at most 1.7e308 is allowed")
    if text.lstrip("-").isdigit() and abs(value) > MOST_EXACT:
        message = f"whole numbers beyond {MOST_EXACT} are not told apart: keep such a value as a text in the catalogue"
        raise source.refused(at, message)
    return value


def _unreadable(source: Source, at: int) -> InvalidRequest:
    found = source.text[at : at + 2]
    hint = _HINTS.get(found) or _HINTS.get(found[:1])
    if hint is None and (found[:1].isdigit() or found[:1] in "+-"):
        hint = "numbers are written like 20, -1.5 or 1e3"
    return source.refused(at, hint or f"{_shown(found[:1])} means nothing here")


def _shown(text: str) -> str:
    cut = text if len(text) <= MAX_FOUND_CHARACTERS else text[: MAX_FOUND_CHARACTERS - 1] + "…"
    return _printable(cut)


def _printable(text: str) -> str:
    """The same width: what cannot be shown (controls, lone surrogates) becomes U+FFFD."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
