from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from embeddings.tagging.report import render_tag_report
from embeddings.tagging.report_cards import moment
from embeddings.tagging.report_figures import (
    Box,
    Evaluation,
    Example,
    HeadReport,
    Segment,
    SpokenItem,
    TagCount,
    TagExamples,
    read_evaluation,
)
from embeddings.tagging.report_findings import findings_of
from recsys.errors import CorruptArtifact
from tests.embeddings.tagging.evaluations import evaluation
from tests.embeddings.tagging.tag_rows import NOON

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e'
BOXES = (Box(10, 20, 300, 400, 0.9), Box(0, 0, 20, 20, 0.4))
EXAMPLE = Example("i1", HOSTILE, "yes", 0.97, picture=b"\xff\xd8jpeg", size=(640.0, 480.0), boxes=BOXES)
HEARD = Example(HOSTILE, None, "unsure", 0.5, sound=b"OggS", moments=((61.0, 62.5),))
REPORT = HeadReport(
    head="image",
    model=HOSTILE,
    version="v1",
    at=NOON,
    status={"judged": 90, "absent": 5, "refused": 2},
    counts=(TagCount("red", HOSTILE, 40, 8, agree=9, disagree=3), TagCount("round", "round", 0, 0)),
    evaluation=msgspec.convert(evaluation(), Evaluation),
    examples=(TagExamples("red", (EXAMPLE,), (HEARD,)),),
    spoken=(SpokenItem("i2", HOSTILE, "en", 3725.4, (Segment(0, 2.5, f" {HOSTILE}", 0.9),), b"OggS"),),
)


class _Page(HTMLParser):
    """All tags with their attributes, and whether they are closed in order."""

    void = frozenset({"meta", "img", "br", "input", "line", "circle", "rect", "polyline"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def page() -> _Page:
    found = _Page(render_tag_report(REPORT))
    assert found.open == []
    return found


def test_titles_names_and_words_are_shown_as_the_text_they_are(page: _Page) -> None:
    assert page.all("script") == []
    assert [each for _, each in page.found if any(name.startswith("on") for name in each)] == []
    assert "\u202e" not in render_tag_report(REPORT)


def test_the_page_loads_nothing_and_nothing_may_run(page: _Page) -> None:
    sources = [each[name] or "" for _, each in page.found for name in ("src", "href") if name in each]
    assert sources
    assert all(each.startswith(("data:", "#")) for each in sources)
    [policy] = [each["content"] or "" for each in page.all("meta") if "http-equiv" in each]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert not [each for _, each in page.found if "style" in each]


def test_what_is_seen_and_heard_has_words_for_those_who_do_not(page: _Page) -> None:
    assert all(each.get("alt") for each in page.all("img"))
    assert all(each.get("aria-label") for each in (*page.all("svg"), *page.all("audio"), *page.all("table")))
    assert all(each.get("scope") in ("col", "row") for each in page.all("th") if each)


def test_boxes_lie_over_the_picture_in_its_own_pixels(page: _Page) -> None:
    [over] = [each for each in page.all("svg") if (each["aria-label"] or "").startswith("2 found")]
    assert over["viewbox"] == "0 0 640 480"
    boxes = [each for each in page.all("rect") if each["class"] == "box"]
    assert [(each["x"], each["y"], each["width"], each["height"]) for each in boxes] == [
        ("10.0", "20.0", "290.0", "380.0"),
        ("0.0", "0.0", "20.0", "20.0"),
    ]


def test_the_dots_of_a_reliability_diagram_lie_where_their_bins_say() -> None:
    found = render_tag_report(REPORT)
    after = found[found.index("After: expected calibration error 0.023") :]
    [x, y] = [float(each) for each in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', after)[0]]
    assert (x - 40) / 300 == pytest.approx(0.1, abs=1e-3)
    assert 1 - (y - 12) / 300 == pytest.approx(0.1 - 0.023, abs=1e-3)


def test_figures_of_each_tag_stand_in_a_table() -> None:
    found = render_tag_report(REPORT)
    row = found[found.index('<th scope="row">round</th><td>70 of 200') :]
    told = " ".join(re.sub("<[^>]+>", " ", row[: row.index("</tr>")]).split())
    measured = "0.52 0.48–0.56 0.61 0.57–0.65 0.70 0.66–0.74 0.80 0.76–0.84"
    assert told == f"round 70 of 200 {measured} never 0.30 none reaches it: never given"


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "fine", "Calibration error 0.091 before calibration, 0.023 after"),
        ({}, "fine", "91.0% of its yes are right (85.0% to 95.0%), of 64; asked for: 90%"),
        ({"target_precision": 0.97}, "alarm", "asked for: 97%"),
        ({}, "look", "never given: round"),
        ({}, "look", "The content of 2 items cannot be read"),
        ({}, "look", "Of 12 words of people on its tags, it says the same in 75%"),
    ],
)
def test_what_is_worth_knowing_is_told_in_sentences(changes: dict[str, Any], level: str, words: str) -> None:
    verdicts = {**evaluation()["verdicts"], **changes}
    report = replace(REPORT, evaluation=msgspec.convert(evaluation(verdicts=verdicts), Evaluation))
    assert [each.level for each in findings_of(report) if words in each.text] == [level]


def test_a_head_without_figures_or_verdicts_has_a_page_too() -> None:
    bare = HeadReport("audio", "", "", None, {}, (TagCount("red", "red", 0, 0),))
    found = _Page(render_tag_report(bare))
    assert found.open == []
    assert [each["id"] for each in found.all("section")] == ["findings", "given"]


def test_the_same_report_gives_the_same_bytes() -> None:
    assert render_tag_report(REPORT) == render_tag_report(REPORT)


def test_an_evaluation_that_lacks_what_the_page_needs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    assert read_evaluation(path) is None
    path.write_bytes(msgspec.json.encode(evaluation()))
    assert read_evaluation(path) == REPORT.evaluation
    path.write_bytes(msgspec.json.encode(evaluation(figures={})))
    with pytest.raises(CorruptArtifact, match="train the head again"):
        read_evaluation(path)


def test_moments_are_told_as_people_do() -> None:
    assert [moment(each) for each in (0, 2.44, 59.96, 61.5, 3725.4)] == [
        "0:00.0",
        "0:02.4",
        "1:00.0",
        "1:01.5",
        "1:02:05.4",
    ]
