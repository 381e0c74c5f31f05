from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embeddings.tagging.review_page import Question, render_review
from embeddings.tagging.word_files import read_word_file
from tests.embeddings.tagging.tag_rows import NOON
from tests.worlds.browser import Browser, browser

HOSTILE = '"><img src=x onerror="document.title=1"><script>document.title=2</script>'
ODD_ID = "a \"quoted\", 'odd' <id> & 狗"
QUESTIONS = [
    Question(item, tag, tag, HOSTILE, HOSTILE, "0.02 below its threshold of 0.50", 0.48, b"\xff\xd8", None)
    for item, tag in (("i1", "dog"), (ODD_ID, "dog"), ("i1", "cat"), ("i3", "cat"))
]
PRESSED = 'document.querySelectorAll("[aria-pressed=true]").length'
SAVE = "document.getElementById('download').click()"


def test_questions_of_one_tag_stand_together_and_titles_are_text() -> None:
    page = render_review("image", [QUESTIONS[0], QUESTIONS[2], QUESTIONS[1], QUESTIONS[3]])
    assert page.count("<section>") == 2
    assert page.count("<script>") == 1
    assert "<img src=x" not in page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Browser, Path]]:
    path = tmp_path / "review.html"
    path.write_text(render_review("image", QUESTIONS))
    with browser() as opened:
        downloads = tmp_path / "downloads"
        opened.open(path)
        opened.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        yield opened, downloads


@pytest.mark.browser
def test_the_page_is_answered_by_keyboard_and_its_file_is_imported(page: tuple[Browser, Path]) -> None:
    opened, downloads = page
    opened.press("ArrowRight")
    opened.press("y")
    opened.press("n")
    assert opened.run("document.activeElement.dataset.tag") == "cat"
    opened.press("y")
    opened.press("ArrowLeft")
    opened.press("u")
    assert opened.run("document.getElementById('done').textContent") == "2"
    opened.run("document.getElementById('by').value = 'Ann, \"the\" first'")
    opened.run("document.querySelectorAll('.question')[3].querySelector('[data-verdict=no]').click()")
    assert opened.run(PRESSED) == 3
    assert opened.run("document.title") == "Review of tags: image"
    opened.run(SAVE)
    found = read_word_file(
        _downloaded(opened, downloads), ["dog", "cat"], {"i1", ODD_ID, "i3"}, by="?", now=NOON.replace(year=2100)
    )
    assert [(each.item_id, each.tag, each.verdict, each.by) for each in found.words] == [
        ("i1", "dog", "yes", 'Ann, "the" first'),
        (ODD_ID, "dog", "no", 'Ann, "the" first'),
        ("i3", "cat", "no", 'Ann, "the" first'),
    ]
    assert not len(found.quarantine)


@pytest.mark.browser
def test_answers_are_still_there_when_the_page_is_opened_again(page: tuple[Browser, Path], tmp_path: Path) -> None:
    opened, _ = page
    opened.run("document.querySelector('[data-verdict=yes]').click()")
    opened.open(tmp_path / "review.html")
    assert opened.run(PRESSED) == 1


def _downloaded(opened: Browser, folder: Path) -> Path:
    for _ in range(200):
        found = list(folder.glob("answers-image.csv"))
        if found:
            return found[0]
        opened.run("new Promise((done) => setTimeout(done, 50))")
    raise AssertionError(f"nothing was downloaded into {folder}")
