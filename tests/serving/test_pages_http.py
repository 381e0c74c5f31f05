"""Pages over HTTP: whatever happens between two of them, no item comes twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.pages import MAX_ITEMS, PageTokens
from tests.serving.asking import event, ids, refused, send, soon
from tests.serving.conftest import OpenShop
from tests.serving.routes_of_items import EVERYTHING, ROUTES, asked, everybody_takes_everything, reply_of
from tests.serving.shop import Parts, Shop, open_shop, shop
from tests.serving.world import Shelf

N_PAGES = 20


def page_of(shop: Shop, route: str, token: str | None = None, **more: Any) -> dict[str, Any]:
    return reply_of(shop, route, **more, **({} if token is None else {"page_token": token}))


def all_pages(shop: Shop, route: str, **more: Any) -> list[list[str]]:
    """The items of each page, to the last."""
    pages, token = [], None
    while not pages or token is not None:
        reply = page_of(shop, route, token, **more)
        pages.append(ids(reply))
        token = reply["next_page_token"]
        assert len(pages) < 50
    return pages


@pytest.mark.parametrize("user", [None, "u"])
@pytest.mark.parametrize("route", ROUTES)
def test_pages_hold_every_item_once_and_the_last_has_no_next(shop: Shop, route: str, user: str | None) -> None:
    everybody_takes_everything(shop)
    more = {} if user is None else {"user_id": user}
    pages = all_pages(shop, route, limit=4, **more)
    shown = [item_id for page in pages for item_id in page]
    assert len(shown) == len(set(shown))
    assert all(len(page) == 4 for page in pages[:-1])
    whole = set(ids(page_of(shop, route, limit=500, **more)))
    assert set(shown) == whole
    assert len(whole) > 5


@pytest.mark.parametrize("route", ["recommendations", "rank", "similar", "popular", "search_text"])
def test_pages_go_on_where_the_one_before_ended(shop: Shop, route: str) -> None:
    everybody_takes_everything(shop)
    if route == "recommendations":
        shop.configure("[recommender.rerank]\ndiversity = 0\n")
        soon(lambda: shop.service.surfaces().default.recommender.rerank.diversity == 0)
    whole = ids(page_of(shop, route, limit=12))
    first = page_of(shop, route, limit=6)
    assert ids(first) + ids(page_of(shop, route, first["next_page_token"], limit=6)) == whole


def test_items_given_to_rank_all_fit_on_a_page_that_is_the_last(shop: Shop) -> None:
    assert page_of(shop, "rank")["next_page_token"] is None
    assert page_of(shop, "rank", limit=29)["next_page_token"] is not None


def test_each_page_is_a_recommendation_of_its_own_in_the_log(shop: Shop) -> None:
    first = page_of(shop, "recommendations", limit=3, user_id="u")
    second = page_of(shop, "recommendations", first["next_page_token"], limit=3, user_id="u")
    logged = [(exposure.recommendation_id, list(exposure.item_ids)) for _, exposure in shop.store.exposures()]
    assert logged == [(each["recommendation_id"], ids(each)) for each in (first, second)]
    assert first["recommendation_id"] != second["recommendation_id"]


def test_the_size_of_a_page_may_change_between_two(shop: Shop) -> None:
    first = page_of(shop, "recommendations", limit=2)
    second = page_of(shop, "recommendations", first["next_page_token"], limit=20)
    assert len(set(ids(first)) | set(ids(second))) == 22


DOING = ("take", "hide", "show", "delete", "add", "swap", "block", "page")


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(DOING), st.integers(0, 29)), max_size=40),
    limit=st.integers(1, 4),
    route=st.sampled_from(("recommendations", "similar", "popular", "search_text")),
)
def test_no_item_comes_twice_whatever_happens_between_pages(
    steps: list[tuple[str, int]], limit: int, route: str
) -> None:
    shelf = Shelf({"r1": shop("r1"), "r2": shop("r2", per_family=12)})
    with open_shop(Parts(shelf=shelf)) as running:
        shown: list[str] = []
        gone: set[str] = set()
        token: str | None = None
        for doing, number in [*steps, *[("page", 0)] * N_PAGES]:
            item_id = EVERYTHING[number]
            match doing:
                case "take":
                    send(running.client, event("u", item_id))
                case "hide" | "show":
                    running.post("/v1/items", item_id=item_id, hidden=doing == "hide")
                    (gone.add if doing == "hide" else gone.discard)(item_id)
                case "delete":
                    running.client.delete(f"/v1/items/{item_id}")
                    gone.add(item_id)
                case "add":
                    running.post("/v1/items", item_id=f"new {number}", title="gamma")
                case "swap":
                    shelf.pointer = "r2" if shelf.pointer == "r1" else "r1"
                    running.service.releases.reload()
                case "block":
                    running.post("/v1/users:block", user_id="u", item_ids=[item_id])
                    gone.add(item_id)
                case _:
                    if shown and token is None:
                        break
                    reply = page_of(running, route, token, user_id="u", limit=limit)
                    assert not gone & set(ids(reply))
                    shown += ids(reply)
                    token = reply["next_page_token"]
                    if not shown:
                        break
        assert len(shown) == len(set(shown))


@pytest.mark.parametrize("route", ["recommendations", "search_text", "similar", "popular"])
def test_a_token_is_of_one_user_session_surface_filter_and_route(opened: OpenShop, route: str) -> None:
    running = opened(Parts(toml="[surfaces.home]\nlimit = 3\n"))
    token = page_of(running, route, limit=3, user_id="u")["next_page_token"]
    others: list[dict[str, Any]] = [
        {"user_id": "v"},
        {},
        {"user_id": "u", "surface": "home"},
        {"user_id": "u", "filter": "price > 1"},
    ]
    if ROUTES[route][0] == "POST":
        others += [{"user_id": "u", "session_id": "s"}, {"user_id": "u", "history": [{"item_id": "a1"}]}]
    for other in others:
        assert refused(asked(running, route, page_token=token, limit=3, **other), 422)["field"] == "/page_token"
    for kind in ROUTES:
        if kind != route and not (kind == "similar_by_query" and route == "similar"):
            refused(asked(running, kind, page_token=token, limit=3, user_id="u"), 422)
    assert page_of(running, route, token, limit=3, user_id="u")["items"]


def test_a_token_of_one_search_or_item_is_none_of_another(shop: Shop) -> None:
    token = page_of(shop, "search_text", limit=3)["next_page_token"]
    refused(shop.post("/v1/search", text="alpha", limit=3, page_token=token), 422)
    token = page_of(shop, "similar", limit=3)["next_page_token"]
    refused(shop.get("/v1/items/b4/similar", limit=3, page_token=token), 422)
    assert shop.get("/v1/similar", item_id="b3", limit=3, page_token=token).status_code == 200


def test_a_filter_that_means_the_same_is_the_same(shop: Shop) -> None:
    token = page_of(shop, "recommendations", filter="price>2 and price<9", limit=3)["next_page_token"]
    assert page_of(shop, "recommendations", token, filter="(price > 2) and (price < 9)", limit=3)["items"]


@pytest.mark.parametrize("token", ["nonsense", "影", "A" * 80, "-_" * 50, " "])
def test_a_forged_token_is_refused_by_name_on_every_route(shop: Shop, token: str) -> None:
    for route in ROUTES:
        assert refused(asked(shop, route, page_token=token), 422)["field"] == "/page_token"


def test_a_token_of_another_service_or_of_yesterday_is_refused(shop: Shop, opened: OpenShop) -> None:
    token = page_of(shop, "recommendations", limit=3)["next_page_token"]
    assert refused(asked(opened(), "recommendations", page_token=token, limit=3), 422)["field"] == "/page_token"
    tokens = shop.service.tokens

    class Yesterday(PageTokens):
        def __init__(self) -> None:
            """Of the same key."""
            self._key = tokens._key

        def write(self, page: Any, asked: bytes, shown: Any, now_s: int, most: int = MAX_ITEMS) -> str | None:
            return super().write(page, asked, shown, now_s - 86_500, most)

    object.__setattr__(shop.service, "tokens", Yesterday())
    old = page_of(shop, "recommendations", limit=3)["next_page_token"]
    assert "expired" in refused(asked(shop, "recommendations", page_token=old, limit=3), 422)["detail"]


def test_refining_goes_on_although_the_items_own_price_has_changed(shop: Shop) -> None:
    first = page_of(shop, "refine", text="cheaper", limit=3)
    shop.post("/v1/items", item_id="b9", price=5)
    second = page_of(shop, "refine", first["next_page_token"], text="cheaper", limit=3)
    assert second["filter"] == "price < 5.0"
    assert not set(ids(first)) & set(ids(second))


def test_a_filter_that_has_come_to_its_end_brings_nothing_else(shop: Shop) -> None:
    everybody_takes_everything(shop)
    for route in ROUTES:
        pages = all_pages(shop, route, filter='categories has "alpha" and price <= 4', limit=2)
        assert {item_id for page in pages for item_id in page} <= {"a0", "a1", "a2", "a3"}, route
