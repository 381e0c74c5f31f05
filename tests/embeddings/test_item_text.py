"""The words of an item, the same for jobs and service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embeddings.item_text import (
    MAX_ATTRIBUTE_CHARACTERS,
    MAX_ATTRIBUTES_CHARACTERS,
    attributes_text,
    item_text,
    normalise_text,
    text_hash,
)
from recsys.item_template import DEFAULT_TEMPLATE


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


FILM = {"director": "John Lasseter", "actors": ["Tom Hanks", "Tim Allen"], "released": "22 Nov 1995"}


def test_attributes_stand_before_the_description_in_the_order_of_their_names() -> None:
    said = item_text("Toy Story", "A boy and his toys.", ["Animation"], FILM)
    in_words = "actors: Tom Hanks, Tim Allen. director: John Lasseter. released: 22 Nov 1995"
    assert said == f"Toy Story. Animation. {in_words}. A boy and his toys."
    assert item_text(None, None, (), FILM) == f"{in_words}."


def test_without_attributes_the_text_is_what_it_always_was() -> None:
    first = "{title}. {categories}. {description}."
    for attributes in (None, {}, {"sku": "A-1"}, {"stock": 4, "is_new": False}):
        for title, description, categories in (("Heat", "A thief", ["Crime"]), ("Who?", None, []), (None, "!", [])):
            here = item_text(title, description, categories, attributes)
            assert here == item_text(title, description, categories, template=first)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"colour": "red", "sizes": [38, 39.5], "weight_kg": 1.50}, "colour: red. sizes: 38, 39.5. weight kg: 1.5"),
        ({"waterproof": True, "sold-out": False, "madeIn": "Italy"}, "made In: Italy. waterproof"),
        ({"none": None, "empty": "", "nothing": [], "nested": {"a": 1}, "mixed": [{"a": 1}, "b", True]}, "mixed: b"),
        ({"product_id": "x", "imageUrl": "y", "price": 5, "review count": 7, "gtin": "z", "Rating": 4.5}, ""),
        ({"site": "https://example.org/a?b=c", "mail": "a@example.org", "cover": "covers/1.jpg"}, ""),
        ({"code": "4006381333931", "digest": "deadbeefdeadbeef", "since": "2024-01-03T10:00:00Z"}, ""),
        ({"year": 1995, "motto": "visit www.example.org today"}, "motto: visit www.example.org today. year: 1995"),
    ],
)
def test_attributes_that_no_person_would_read_out_are_left_out(attributes: dict[str, object], said: str) -> None:
    assert attributes_text(attributes) == said


def test_long_attributes_are_cut_at_a_word_and_leave_room_for_the_description() -> None:
    long = attributes_text({"material": "soft cotton " * 50})
    assert long.startswith("material: soft cotton")
    assert len(long) <= len("material: ") + MAX_ATTRIBUTE_CHARACTERS
    assert long.endswith(("soft", "cotton"))
    many = attributes_text({f"name {at:02}": "wool " * 30 for at in range(20)})
    assert MAX_ATTRIBUTES_CHARACTERS - 10 < len(many) <= MAX_ATTRIBUTES_CHARACTERS
    assert attributes_text({"text": "长" * 300}) == "text: " + "长" * MAX_ATTRIBUTE_CHARACTERS


BY = "{title} ({attributes.year}) by {attributes.director}. {attributes}. {description}"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"year": 1995, "director": "M. Mann", "colour": "blue"}, "Heat (1995) by M. Mann. colour: blue. A thief"),
        ({"year": 1995}, "Heat (1995). A thief"),
        ({"director": "M. Mann"}, "Heat by M. Mann. A thief"),
        ({}, "Heat. A thief"),
    ],
)
def test_missing_fields_of_a_template_take_their_words_along(attributes: dict[str, object], said: str) -> None:
    assert item_text("Heat", "A thief", ["Crime"], attributes, BY) == said


def test_a_text_never_begins_with_what_separates_and_never_ends_twice() -> None:
    template = "{title}. Colour: {attributes.colour}. {description}."
    assert item_text(None, "Warm!", (), {"colour": "red"}, template) == "Colour: red. Warm!"
    assert item_text(None, "Warm!", (), {}, template) == "Warm!"
    assert item_text("What?", None, (), {}, template) == "What?"
    assert item_text(None, None, ["Crime"], {}, template) is None


def test_an_attribute_that_is_asked_for_by_name_is_said_even_where_it_would_be_left_out() -> None:
    assert item_text(
        "Heat", None, (), {"price": 5, "new": True}, "{title}, {attributes.price} euro, {attributes.new}"
    ) == ("Heat, 5 euro, new")


@given(
    title=st.none() | st.text(max_size=20),
    description=st.none() | st.text(max_size=20),
    categories=st.lists(st.text(max_size=8), max_size=3),
    attributes=st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=5,
        ),
        max_size=4,
    ),
)
def test_any_item_has_a_normalised_text_or_none(
    title: str | None, description: str | None, categories: list[str], attributes: dict[str, object]
) -> None:
    for template in (DEFAULT_TEMPLATE, BY, "{categories}"):
        said = item_text(title, description, categories, attributes, template)
        assert said is None or (said and said == normalise_text(said))
