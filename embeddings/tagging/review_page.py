"""The labelling page: one HTML file that works from a disk, by mouse or keyboard, and gives the answers as a CSV file.

Nothing is loaded from elsewhere. Its content security policy allows the one style sheet and the one script by their
hashes, and pictures and sounds that are inside the file. Titles are shown as the text they are: the script builds
nothing from them, it only reads attributes and marks buttons.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from embeddings.quality.page_parts import count, safe, short
from embeddings.quality.page_style import STYLE
from embeddings.tagging.review_script import REVIEW_STYLE, SCRIPT
from recsys.manifest import fingerprint

_MAX_TITLE, _MAX_TEXT = 120, 220


@dataclass(frozen=True)
class Question:
    """Does this item have this tag?

    Attributes:
        tag_name: what people call it.
        why: it is asked.
        confidence: of yes; None where the model did not say.
        picture: JPEG.
        sound: Ogg Vorbis.
    """

    item_id: str
    tag: str
    tag_name: str
    title: str | None
    text: str | None
    why: str
    confidence: float | None
    picture: bytes | None
    sound: bytes | None


def render_review(head: str, questions: Sequence[Question]) -> str:
    """The page; questions of one tag stand together, tags and questions in the order given."""
    first = {each.tag: at for at, each in reversed(list(enumerate(questions)))}
    questions = sorted(questions, key=lambda each: first[each.tag])
    key = fingerprint([[each.item_id, each.tag] for each in questions])[:16]
    style = STYLE + REVIEW_STYLE
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(SCRIPT)}'; base-uri 'none'; form-action 'none'"
    )
    numbers = iter(range(len(questions)))
    sections = "".join(
        _section(tag, [(next(numbers), each) for each in group])
        for tag, group in groupby(questions, key=lambda each: each.tag)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n'
        f"<title>Review of tags: {safe(head)}</title>\n<style>{style}</style>\n</head>\n"
        f'<body data-key="{key}" data-head="{safe(head)}">\n{_bar(len(questions))}'
        f"<header><h1>Review of tags: {safe(head)}</h1>{_HELP}</header>\n<main>\n{sections}</main>\n"
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


_HELP = (
    "<p>Does the item have the tag? <kbd>Y</kbd> yes, <kbd>N</kbd> no, <kbd>U</kbd> take it back, "
    "<kbd>&larr;</kbd> <kbd>&rarr;</kbd> move; what you leave open says nothing. Your answers stay in this browser "
    "until you download them; then run <code>recsys tag review import</code> on the file.</p>"
    "<noscript><p><strong>This page needs JavaScript: fill in the CSV file beside it instead.</strong></p></noscript>"
)


def _bar(n: int) -> str:
    return (
        '<div class="answers" role="region" aria-label="Answers">'
        f'<p aria-live="polite"><strong id="done">0</strong> of {count(n)} answered</p>'
        '<label>Your name <input id="by" autocomplete="name" maxlength="100"></label>'
        '<button type="button" id="download">Download answers</button></div>\n'
    )


def _section(tag: str, questions: Sequence[tuple[int, Question]]) -> str:
    name = questions[0][1].tag_name
    plain = f' <span class="id">{safe(tag)}</span>' if name != tag else ""
    cards = "".join(_card(at, each) for at, each in questions)
    heading = f'<h2>{safe(name)}?{plain} <span class="soft">{count(len(questions))}</span></h2>'
    return f'<section>{heading}<div class="questions">{cards}</div></section>\n'


def _card(at: int, each: Question) -> str:
    title = safe(short(each.title or "", _MAX_TITLE))
    label = title or safe(each.item_id)
    text = f'<p class="words">{safe(short(each.text, _MAX_TEXT))}</p>' if each.text else ""
    told = "" if each.confidence is None else f"model: {each.confidence:.0%}; "
    return (
        f'<article class="question" tabindex="{0 if at == 0 else -1}" data-item="{safe_exactly(each.item_id)}" '
        f'data-tag="{safe_exactly(each.tag)}" aria-label="{label}: {safe(each.tag_name)}?">'
        f"{_seen(each, label)}{_heard(each, label)}"
        f'<p class="title">{title or "<em>no title</em>"}</p>{text}'
        f'<p class="says"><span class="id">{safe(short(each.item_id, _MAX_TITLE))}</span><br>{told}{safe(each.why)}</p>'
        '<div class="choice"><button type="button" data-verdict="yes" aria-pressed="false">Yes</button>'
        '<button type="button" data-verdict="no" aria-pressed="false">No</button></div></article>'
    )


def _seen(each: Question, label: str) -> str:
    if each.picture is None:
        return "" if each.sound is not None else '<span class="none">no picture</span>'
    source = base64.b64encode(each.picture).decode()
    return f'<img alt="{label}" loading="lazy" src="data:image/jpeg;base64,{source}">'


def _heard(each: Question, label: str) -> str:
    if each.sound is None:
        return ""
    source = base64.b64encode(each.sound).decode()
    return f'<audio controls preload="none" aria-label="Sound of {label}" src="data:audio/ogg;base64,{source}"></audio>'


def safe_exactly(value: str) -> str:
    """Escaped for an attribute from which the very same text must be read back."""
    return escape(value)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
