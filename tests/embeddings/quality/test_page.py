"""The page holds everything it shows, runs nothing, and shows hostile titles as the text they are."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.quality.charts import histogram_svg
from embeddings.quality.findings import findings_of
from embeddings.quality.page import MAX_CARDS, MAX_GROUPS, MAX_MEMBERS, render_page, shown_items
from embeddings.quality.page_parts import Card, safe

BINS = {"low": 0.0, "high": 1.0, "counts": [0, 3, 9, 4]}
TAGS = frozenset(
    re.findall(
        r"\w+",
        """html head meta title style body header h1 h2 h3 nav a main section ul li p strong em div span img br figure
        figcaption svg rect polyline line text table tr th td code footer""",
    )
)


def report(item_ids: list[str], *, message: str = "convert it", **changes: Any) -> dict[str, Any]:
    """A report in which each item has every fault there is."""
    group = {
        "kind": "near",
        "checked": False,
        "items": [{"item_id": each, "similarity": 0.9, "same": False} for each in item_ids],
    }
    duplicates = {
        "items": 9, "contents": 8, "threshold": 0.8, "calibrated": True, "dimension": 12.0,
        "pairs_nearer_than_chance": 3, "pairs_unlike": 1, "pairs_unchecked": 1, "same_groups": 0, "near_groups": 1,
        "items_in_groups": 2, "groups": [group], "nearest_similarities": BINS,
    }  # fmt: skip
    far = {"limit": 0.4, "new": 0.1, "released": 0.01, "p": 0.0001}
    drift = {
        "new": 9, "released": 90, "alarms": ["far"], "missing": {"new": 0.1, "released": 0.0, "p": 0.5},
        "energy": {"coefficient": 0.1, "p": 0.2}, "mean_shift": {"size": 0.1, "by_chance": 0.1}, "far": far,
        "farthest": [{"item_id": each, "similarity": 0.1} for each in item_ids],
        "nearest_released": {"new": BINS, "released": BINS},
    }  # fmt: skip
    refused = [{"item_id": each, "reason": "damaged", "message": message} for each in item_ids]
    kind = {
        "present": 8, "share": 0.8, "refused": len(refused), "absent": 1, "not_finite": item_ids,
        "refused_by_reason": {"damaged": len(refused)}, "refused_items": refused,
    }  # fmt: skip
    made: dict[str, Any] = {
        "content": "0123",
        "presence": {"items": 9, "with_nothing": 0, "kinds": {"image": kind}},
        "near_duplicates": {"image": duplicates, "text": duplicates},
        "blank_images": {
            "pictures": 9, "looked_at": 5, "sampled": True, "unreadable": [], "by_kind": {"one_colour": 1},
            "images": [{"item_id": each, "kind": "one_colour", "one_colour": 0.98} for each in item_ids],
        },
        "disagreement": {
            "items": 9, "method": "fitted", "why_not": "", "power": 0.2, "own_wins": 0.8, "explained": 0.1,
            "outliers": 1, "cut": 0.2, "own_scores": BINS, "wrong_scores": BINS,
            "lowest": [{"item_id": each, "score": -0.1, "z": -4.0} for each in item_ids],
        },
        "drift": {"release": "r" * 64, "added": 3, "changed": 1, "removed": 0, "kinds": {"image": drift}},
    }  # fmt: skip
    made |= changes
    return made | {"findings": findings_of(made)}


class _Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


HOSTILE = [
    '<script>alert("1")</script>',
    "\"><img src=x onerror='alert(1)'>",
    "</style></title><h1>gone",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
    "‮txet desrever\x00\x1b[31m",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_titles_texts_and_messages_are_shown_as_text(text: str) -> None:
    page = render_page(report([text], message=text), {text: Card(text, text)})
    read = _Reader(page)
    assert set(read.tags) <= TAGS
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert not [value for name, value in read.attributes if name in ("src", "href") and value[:1] not in "#"]
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    assert read.texts.count(shown) >= 4
    assert "\x00" not in page
    assert "‮" not in page


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=60))
def test_no_title_ever_makes_a_tag_or_an_attribute(text: str) -> None:
    with_text = _Reader(render_page(report(["a"], message=text), {"a": Card(text, text)}))
    without = _Reader(render_page(report(["a"], message="b"), {"a": Card("b", "b")}))
    ignored = {"em", "p"}  # an empty title is replaced, an empty text left out
    assert [tag for tag in with_text.tags if tag not in ignored] == [tag for tag in without.tags if tag not in ignored]
    assert {name for name, _ in with_text.attributes} == {name for name, _ in without.attributes}


def test_the_page_forbids_everything_but_its_own_style_and_pictures_inside_it() -> None:
    page = render_page(report(["a"]), {"a": Card("A", None, b"jpeg")})
    read = _Reader(page)
    policy = next(value for name, value in read.attributes if value.startswith("default-src"))
    style = re.search("<style>(.*)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'")
    assert [name for name, _ in read.attributes if name == "style"] == []
    sources = {value for name, value in read.attributes if name == "src"}
    assert sources == {"data:image/jpeg;base64," + base64.b64encode(b"jpeg").decode()}
    assert "//" not in re.sub('data:[^"]*', "", page).replace("http-equiv", "")


def test_what_a_page_shows_is_bounded_and_what_it_leaves_out_is_counted() -> None:
    ids = [f"i{n}" for n in range(1000)]
    many = report(ids)
    many["near_duplicates"]["image"]["groups"] *= 500
    shown = shown_items(many)
    assert len(shown) == len(set(shown)) == max(MAX_MEMBERS, MAX_CARDS)
    page = render_page(many, {})
    assert page.count("<strong>1,000 items</strong>") == 2 * MAX_GROUPS  # pictures and texts
    assert f"{500 - MAX_GROUPS} more groups in the JSON file" in page
    assert f"{1000 - MAX_CARDS} more items in the JSON file" in page


def test_every_item_shown_is_asked_for() -> None:
    ids = [f"i{n}" for n in range(40)]
    page = render_page(report(ids), {each: Card(f"title of {each}") for each in shown_items(report(ids))})
    assert "no title" not in page


def test_the_same_report_gives_the_same_page() -> None:
    cards = {"a": Card("A", "text", b"jpeg")}
    assert render_page(report(["a"]), cards) == render_page(report(["a"]), cards)


def test_what_is_not_told_says_why() -> None:
    untold = report(
        ["a"],
        disagreement={"method": "none", "why_not": "the two encoders are not aligned", "lowest": [], "outliers": 0},
        drift={"why_not": "there is no release yet"},
    )
    page = render_page(untold, {})
    assert "Not told: the two encoders are not aligned." in page
    assert "Not compared: there is no release yet." in page
    assert [each["level"] for each in untold["findings"]][-2:] == ["note", "note"]


def test_alarms_come_first() -> None:
    levels = [each["level"] for each in report(["a"])["findings"]]
    assert levels == sorted(levels, key=["alarm", "look", "fine", "note"].index)
    assert levels[:2] == ["alarm", "alarm"]


def test_bars_are_as_high_as_the_root_of_their_share() -> None:
    svg = histogram_svg("x", {"low": 0.0, "high": 1.0, "counts": [4, 0, 1]})
    heights = [float(each) for each in re.findall(r'height="([\d.]+)"/>', svg)]
    assert len(heights) == 2
    assert heights[1] / heights[0] == pytest.approx(1 / 2)  # sqrt(1 / 4)
    assert "nan" not in histogram_svg("x", {"low": 1.0, "high": 1.0001, "counts": [0, 0]}, mark=0.3)


def test_text_that_cannot_be_seen_becomes_a_sign() -> None:
    assert safe("a\tb\nc") == "a b c"
    assert safe("a\u202eb\x07") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    assert safe("<a href='\"'>&") == "&lt;a href=&#x27;&quot;&#x27;&gt;&amp;"
