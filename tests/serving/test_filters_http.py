"""Filters over HTTP: on every route that takes one, nothing else passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving.asking import event, ids, recommend, refused, send
from tests.serving.routes_of_items import (
    BODIES,
    EVERYTHING,
    ROUTES,
    asked,
    everybody_takes_everything,
    reply_of,
    slate_of,
)
from tests.serving.shop import Shop, described, open_shop

ALPHA_BLUE = 'categories has "alpha" and attributes.colour = "blue"'
BLUE_ALPHAS = {"a1", "a3", "a5", "a7", "a9"}
NOTHING = "price < 0"


@pytest.fixture(scope="module")
def still() -> Iterator[Shop]:
    """A shop that is asked and never changed."""
    with open_shop() as running:
        everybody_takes_everything(running)
        yield running


@pytest.fixture
def taken(shop: Shop) -> Shop:
    everybody_takes_everything(shop)
    return shop


@pytest.mark.parametrize("route", ROUTES)
def test_only_what_matches_is_shown_and_all_of_it(still: Shop, route: str) -> None:
    reply = reply_of(still, route, filter=ALPHA_BLUE, limit=500)
    assert set(ids(reply)) == BLUE_ALPHAS
    assert "filter" not in reply["degraded"]


@pytest.mark.parametrize("route", ROUTES)
def test_where_nothing_matches_other_items_are_shown_and_it_is_said(still: Shop, route: str) -> None:
    without = slate_of(still, route, limit=500)
    reply = reply_of(still, route, filter=NOTHING, limit=500)
    assert sorted(ids(reply)) == sorted(without)
    assert "filter" in reply["degraded"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_strict_filter_that_nothing_matches_gives_nothing(still: Shop, route: str) -> None:
    reply = reply_of(still, route, filter=NOTHING, strict_filtering=True)
    assert (reply["items"], reply["next_page_token"]) == ([], None)
    assert "filter" not in reply["degraded"]


@pytest.mark.parametrize("route", ROUTES)
def test_what_may_not_be_shown_does_not_come_back_without_the_filter(taken: Shop, route: str) -> None:
    for item_id in ("a0", "c0"):
        taken.post("/v1/items", item_id=item_id, hidden=True)
    taken.post("/v1/users:block", user_id="u", item_ids=["a1", "c1"])
    shown = set(slate_of(taken, route, filter=NOTHING, limit=500, user_id="u"))
    assert shown
    assert not shown & {"a0", "c0", "a1", "c1"}


@pytest.mark.parametrize("route", ROUTES)
def test_an_upsert_is_seen_by_filters_at_once(taken: Shop, route: str) -> None:
    assert taken.post("/v1/items", item_id="b5", price=777).status_code == 200
    assert slate_of(taken, route, filter="price = 777", strict_filtering=True) == ["b5"]
    taken.post("/v1/items", item_id="b5", price=None)
    assert slate_of(taken, route, filter="price = 777", strict_filtering=True) == []
    assert slate_of(taken, route, filter="price is null", strict_filtering=True) == ["b5"]
    taken.client.delete("/v1/items/b5")
    assert slate_of(taken, route, filter="price is null", strict_filtering=True) == []


def test_an_attribute_that_only_an_upsert_has_can_be_filtered_by(taken: Shop) -> None:
    assert refused(asked(taken, "popular", filter="attributes.size = 4"), 422)["field"] == "/filter"
    taken.post("/v1/items", item_id="a4", attributes={"size": 4})
    for route in ROUTES:
        assert slate_of(taken, route, filter="attributes.size = 4", strict_filtering=True) == ["a4"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("price >", "column 8"),
        ("price = 1 and", "column 14"),
        ("colour = 1", "column 1"),
        ("attributes.color = 1", "did you mean attributes.colour"),
        ('price = "red"', "column 9"),
        ("(" * 100 + "price = 1" + ")" * 100, "column"),
    ],
)
def test_a_filter_that_is_wrong_is_refused_with_its_column(still: Shop, route: str, text: str, says: str) -> None:
    problem = refused(asked(still, route, filter=text), 422)
    assert problem["field"] == "/filter"
    assert says in problem["detail"]


@pytest.mark.parametrize("route", ROUTES)
def test_a_filter_that_is_too_long_is_refused(still: Shop, route: str) -> None:
    assert refused(asked(still, route, filter="price = 1".ljust(4097)), 422)["field"] == "/filter"
    assert asked(still, route, filter='title contains "' + "影" * 4000 + '"').status_code == 200


@pytest.mark.parametrize("route", BODIES)
def test_excluded_items_stay_away_under_a_filter(still: Shop, route: str) -> None:
    shown = slate_of(still, route, filter=ALPHA_BLUE, exclude_item_ids=["a1", "a3", "nowhere"], limit=500)
    assert set(shown) == BLUE_ALPHAS - {"a1", "a3"}


def test_where_all_that_matches_was_seen_it_counts_as_nothing(shop: Shop) -> None:
    send(shop.client, *[event("u", item_id) for item_id in sorted(BLUE_ALPHAS)])
    strict = recommend(shop.client, user_id="u", filter=ALPHA_BLUE, strict_filtering=True)
    assert strict["items"] == []
    reply = recommend(shop.client, user_id="u", filter=ALPHA_BLUE)
    assert "filter" in reply["degraded"]
    assert not BLUE_ALPHAS & set(ids(reply))
    assert set(slate_of(shop, "rank", user_id="u", filter=ALPHA_BLUE)) == BLUE_ALPHAS
    assert set(slate_of(shop, "popular", user_id="u", filter=ALPHA_BLUE, strict_filtering=True)) == set()


def test_a_filter_and_a_category_both_hold(shop: Shop) -> None:
    assert slate_of(shop, "popular", category="beta", filter="price <= 2") == ["b0", "b1"]


CLAUSES = st.sampled_from(
    [
        'categories has "alpha"',
        'categories has any ("beta", "gamma")',
        "price < 4",
        "price >= 7.5",
        "attributes.year = 2003",
        'attributes.colour != "red"',
        'attributes.brand in ("brand 0", "brand 2")',
        'title contains "OF B"',
    ]
)
FILTERS = st.recursive(
    CLAUSES,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda three: f"({' '.join(three)})")
        | inner.map(lambda one: f"not {one}")
    ),
    max_leaves=5,
)


def plainly_true(text: str, item: Any) -> bool:
    """The same expression in Python's own words."""
    words = text
    for clause, holds in {
        'categories has "alpha"': "alpha" in item.categories,
        'categories has any ("beta", "gamma")': bool({"beta", "gamma"} & set(item.categories)),
        "price < 4": item.price < 4,
        "price >= 7.5": item.price >= 7.5,
        "attributes.year = 2003": item.attributes["year"] == 2003,
        'attributes.colour != "red"': item.attributes["colour"] != "red",
        'attributes.brand in ("brand 0", "brand 2")': item.attributes["brand"] in ("brand 0", "brand 2"),
        'title contains "OF B"': "of b" in item.title.lower(),
    }.items():
        words = words.replace(clause, str(holds))
    return bool(eval(words, {"__builtins__": {}}))


def test_any_filter_lets_pass_what_it_is_true_of_on_every_route() -> None:
    families = {"a": "alpha", "b": "beta", "c": "gamma"}
    items = {item_id: described(families[item_id[0]], int(item_id[1:])) for item_id in EVERYTHING}
    with open_shop() as running:
        everybody_takes_everything(running)

        @settings(max_examples=40, deadline=None)
        @given(text=FILTERS, route=st.sampled_from(sorted(ROUTES)))
        def holds(text: str, route: str) -> None:
            true_of = {item_id for item_id, item in items.items() if plainly_true(text, item)}
            left_out = {"search_item": {"b3"}, "refine": {"b9"}, "similar": {"b3"}, "similar_by_query": {"b3"}}
            expected = true_of - left_out.get(route, set())
            assert set(slate_of(running, route, filter=text, strict_filtering=True, limit=500)) == expected

        holds()
