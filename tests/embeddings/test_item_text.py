"""The words of an item, the same for jobs and service."""

from __future__ import annotations

from embeddings.item_text import item_text, normalise_text, text_hash


def test_title_and_categories_come_before_the_description_that_may_be_cut() -> None:
    assert item_text("Heat", "A thief and a cop.", ["Crime", "Drama"]) == "Heat. Crime, Drama. A thief and a cop."


def test_missing_parts_leave_no_trace() -> None:
    assert item_text("Heat", None) == "Heat."
    assert item_text(None, "  A thief ", []) == "A thief."
    assert item_text("What's Up, Doc?", "", ["", "Comedy"]) == "What's Up, Doc? Comedy."
    assert item_text("活着。", None) == "活着。"


def test_an_item_without_words_has_no_text() -> None:
    assert item_text(None, None) is None
    assert item_text(" \n", "", [""]) is None


def test_normalised_texts_differ_only_where_people_see_it() -> None:
    assert normalise_text(" Ame\u0301lie \n\t (2001) ") == "Amélie (2001)"
    assert text_hash("Ame\u0301lie  ") == text_hash("Amélie")
    assert text_hash("Amelie") != text_hash("Amélie")
