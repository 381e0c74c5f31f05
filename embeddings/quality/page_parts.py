"""The pieces that the report's page is made of. All that comes from outside goes through `safe`."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_MAX_TITLE, _MAX_WORDS = 90, 190


@dataclass(frozen=True)
class Card:
    """How an item is shown: its title and text, and a JPEG, where it has them."""

    title: str | None = None
    text: str | None = None
    thumbnail: bytes | None = None


def section(anchor: str, title: str, body: str) -> str:
    return f'<section id="{safe(anchor)}"><h2>{safe(title)}</h2>\n{body}</section>\n'


def figure(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{caption}</figcaption></figure>\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{safe(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>\n'


def card_html(item_id: str, cards: Mapping[str, Card], note: str, *, words: bool = False) -> str:
    card = cards.get(item_id, Card())
    picture = '<span class="none">no picture</span>'
    if card.thumbnail is not None:
        source = base64.b64encode(card.thumbnail).decode()
        picture = f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{source}">'
    title = safe(short(card.title or "", _MAX_TITLE)) or "<em>no title</em>"
    shown = f'<p class="words">{safe(short(card.text or "", _MAX_WORDS))}</p>' if words and card.text else ""
    return (
        f'<div class="card">{picture}<div><p class="title">{title}</p>'
        f'<p class="says"><span class="id">{safe(short(item_id, _MAX_TITLE))}</span><br>{safe(note)}</p>'
        f"{shown}</div></div>"
    )


def more(n: int, shown: int, what: str) -> str:
    return f'<p class="soft">{count(n - shown)} more {what} in the JSON file.</p>' if n > shown else ""


def more_inline(n: int, shown: int) -> str:
    return f"; {count(n - shown)} more are in the JSON file" if n > shown else ""


def short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def count(count: int) -> str:
    return f"{count:,}"


def safe(value: str) -> str:
    """Escaped for text and attributes; what cannot be seen, or turns the direction of writing, becomes a sign."""
    return escape(
        "".join(
            each if each.isprintable() else " " if each.isspace() else "\N{REPLACEMENT CHARACTER}" for each in value
        )
    )
