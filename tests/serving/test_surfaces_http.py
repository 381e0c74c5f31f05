"""Surfaces over HTTP: what recsys.toml says of a place holds there, and follows an edit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.serving.asking import event, ids, recommend, refused, send, soon
from tests.serving.conftest import OpenShop
from tests.serving.routes_of_items import ROUTES, asked, everybody_takes_everything, slate_of
from tests.serving.shop import Parts, Shop

HOME = """
[recommender.rerank]
diversity = 0
[surfaces.home]
limit = 4
filter = 'attributes.colour = "red"'
[surfaces.rules]
pins = { c9 = 0, b8 = 2 }
bury = ['categories has "alpha"']
boosts = [{ when = 'attributes.year = 2007', add = 5.0 }]
[surfaces.capped]
max_per_category = 2
[surfaces.brands]
caps = [{ column = "attributes.brand", max = 1 }]
[surfaces.once]
exclude_recently_served_s = 3600
[surfaces.again]
exclude_seen = false
[surfaces.curious]
exploration = { explore_share = 0.5 }
"""


@pytest.fixture
def home(opened: OpenShop) -> Shop:
    return opened(Parts(toml=HOME))


def recommended(shop: Shop, surface: str | None = None, **body: Any) -> list[str]:
    named = {} if surface is None else {"surface": surface}
    return ids(recommend(shop.client, **named, **body))


def test_a_surface_says_how_many_and_the_request_may_say_otherwise(home: Shop) -> None:
    assert len(recommended(home, "home")) == 4
    assert len(recommended(home, "home", limit=7)) == 7
    assert len(recommended(home)) == 20
    assert len(slate_of(home, "popular", surface="home")) == 4


@pytest.mark.parametrize("route", ROUTES)
def test_a_surfaces_filter_holds_on_every_route_beside_the_requests_own(home: Shop, route: str) -> None:
    everybody_takes_everything(home)
    shown = slate_of(home, route, surface="home", limit=500)
    assert shown
    assert all(int(item_id[1:]) % 2 == 0 for item_id in shown)
    both = slate_of(home, route, surface="home", limit=500, filter="price > 5")
    assert {int(item_id[1:]) for item_id in both} <= {6, 8}
    blue = 'attributes.colour = "blue"'
    assert all(int(item_id[1:]) % 2 == 0 for item_id in slate_of(home, route, surface="home", filter=blue))
    assert slate_of(home, route, surface="home", filter=blue, strict_filtering=True) == []


@pytest.mark.parametrize("route", ROUTES)
def test_an_unknown_surface_is_refused_and_those_there_are_are_named(home: Shop, route: str) -> None:
    problem = refused(asked(home, route, surface="hom"), 422)
    assert problem["field"] == "/surface"
    assert "home" in problem["detail"]


def test_pins_boosts_and_buries_put_items_in_their_places(home: Shop) -> None:
    shown = recommended(home, "rules", limit=30)
    assert (shown[0], shown[2]) == ("c9", "b8")
    assert {shown[1], shown[3]} == {"b7", "c7"}
    assert all(item_id.startswith("a") for item_id in shown[-10:])


@pytest.mark.parametrize("gone", ["hidden", "deleted", "seen", "blocked", "excluded", "filtered", "expired"])
def test_a_pinned_item_that_may_not_be_shown_never_is(home: Shop, gone: str) -> None:
    assert "c9" in recommended(home, "rules", user_id="u", limit=5)
    more: dict[str, Any] = {}
    match gone:
        case "hidden":
            home.post("/v1/items", item_id="c9", hidden=True)
        case "deleted":
            home.post("/v1/items:delete", item_ids=["c9"])
        case "seen":
            send(home.client, event("u", "c9"))
        case "blocked":
            home.post("/v1/users:block", user_id="u", item_ids=["c9"])
        case "excluded":
            more = {"exclude_item_ids": ["c9"]}
        case "filtered":
            more = {"filter": "price < 9"}
        case _:
            home.post("/v1/items", item_id="c9", available_until="2020-01-01T00:00:00Z")
    shown = recommended(home, "rules", user_id="u", limit=30, **more)
    assert "c9" not in shown
    assert "b8" in shown or gone == "filtered"


def test_a_pinned_item_stands_on_the_first_page_alone(home: Shop) -> None:
    first = recommend(home.client, surface="rules", limit=4)
    second = recommend(home.client, surface="rules", limit=4, page_token=first["next_page_token"])
    assert {"c9", "b8"} <= set(ids(first))
    assert not {"c9", "b8"} & set(ids(second))


def test_caps_hold_while_there_is_something_else(home: Shop) -> None:
    shown = recommended(home, "capped", limit=6)
    assert Counter(item_id[0] for item_id in shown) == {"a": 2, "b": 2, "c": 2}
    brands = recommended(home, "brands", limit=3)
    assert len({int(item_id[1:]) % 3 for item_id in brands}) == 3
    assert len(recommended(home, "capped", limit=30)) == 30


def test_a_second_request_does_not_repeat_what_was_served_a_moment_ago(home: Shop) -> None:
    first = recommended(home, "once", user_id="u", limit=5)
    second = recommended(home, "once", user_id="u", limit=5)
    assert not set(first) & set(second)
    assert len(second) == 5
    assert recommended(home, "once", user_id="v", limit=5) == first
    assert set(recommended(home, user_id="u", limit=30)) >= set(first)
    elsewhere = recommended(home, user_id="u", limit=3)  # another surface's slates count too
    assert not set(elsewhere) & set(recommended(home, "once", user_id="u", limit=5))


def test_where_seen_items_may_come_again_they_do(home: Shop) -> None:
    send(home.client, event("u", "a1"))
    assert "a1" not in recommended(home, user_id="u", limit=30)
    assert "a1" in recommended(home, "again", user_id="u", limit=30)


def test_propensities_stand_in_the_reply_and_in_the_log(home: Shop) -> None:
    replies = [recommend(home.client, surface="curious", limit=6) for _ in range(30)]
    logged = {exposure.recommendation_id: exposure for _, exposure in home.store.exposures()}
    by_chance = 0
    for reply in replies:
        told = tuple(item.get("propensity", 1.0) for item in reply["items"])
        exposure = logged[reply["recommendation_id"]]
        assert told == pytest.approx(exposure.propensities)
        assert exposure.surface == "curious"
        assert all(0 < each <= 1 for each in told)
        by_chance += sum(each < 1 for each in told)
    assert by_chance > 30
    shown = Counter(item_id for reply in replies for item_id in ids(reply))
    assert {"c7", "c8", "c9"} & set(shown)
    assert all("propensity" not in item for item in recommend(home.client)["items"])


def test_an_edit_takes_effect_and_an_invalid_one_leaves_the_old_settings_and_says_so(home: Shop) -> None:
    home.configure(HOME.replace("limit = 4", "limit = 6"))
    soon(lambda: len(recommended(home, "home")) == 6)
    for wrong, says in [
        (HOME.replace("limit = 4", "limit = -1"), "surfaces.home.limit"),
        (HOME.replace("attributes.colour =", "attributes.colour ="[:-1]), "surfaces.home"),
        (HOME + "[surfaces", "TOML"),
        (HOME.replace("limit = 4", "limmit = 4"), "limmit"),
    ]:
        home.configure(wrong)
        soon(lambda says=says: says in " ".join(home.get("/readyz").json().get("reasons", ())))  # type: ignore[misc]
        assert home.get("/readyz").json()["status"] == "degraded"
        assert len(recommended(home, "home")) == 6
    home.configure(HOME.replace("limit = 4", "limit = 3"))
    soon(lambda: len(recommended(home, "home")) == 3)
    assert home.get("/readyz").json()["status"] == "ready"


def test_a_surface_may_come_and_go_while_the_service_runs(shop: Shop) -> None:
    refused(asked(shop, "recommendations", surface="home"), 422)
    shop.configure(HOME)
    soon(lambda: asked(shop, "recommendations", surface="home").status_code == 200)
    shop.configure("")
    soon(lambda: asked(shop, "recommendations", surface="home").status_code == 422)


def test_what_was_served_is_remembered_from_the_edit_on_that_asks_for_it(shop: Shop) -> None:
    recommended(shop, user_id="u", limit=5)
    shop.configure("[surfaces.once]\nexclude_recently_served_s = 60\n")
    soon(lambda: asked(shop, "recommendations", surface="once", limit=1).status_code == 200)
    first = recommended(shop, "once", user_id="u", limit=5)
    assert not set(first) & set(recommended(shop, "once", user_id="u", limit=5))
