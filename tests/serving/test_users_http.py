"""Users over HTTP: merged, blocked, erased; and their ids, which are any text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.storage.drainer import Drainer
from recsys.storage.redis_server import PrivateRedis
from recsys.storage.spool import Spool
from recsys.storage.urls import open_store
from serving.exposures import Exposures
from serving.service import Service
from tests.serving.asking import event, ids, recommend, refused, send
from tests.serving.conftest import OpenShop
from tests.serving.routes_of_items import ROUTES, everybody_takes_everything, reply_of, slate_of
from tests.serving.shop import Parts, Shop, open_shop

SLATES = "[surfaces.once]\nexclude_recently_served_s = 3600\n"


def merged(shop: Shop, source: str, target: str) -> dict[str, Any]:
    response = shop.post("/v1/users:merge", source_user_id=source, target_user_id=target)
    assert response.status_code == 200, response.text
    return dict(response.json())


def erased(shop: Shop, user: str) -> dict[str, Any]:
    response = shop.post("/v1/users:erase", user_id=user)
    assert response.status_code == 200, response.text
    return dict(response.json())


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, opened: OpenShop) -> Shop:
    """A shop over each kind of store."""
    if request.param == "memory":
        return opened(Parts(toml=SLATES))
    url = f"sqlite:///{tmp_path}/store.db"
    if request.param == "redis":
        url = f"{request.getfixturevalue('redis_url')}?namespace={tmp_path.name}"
    return opened(Parts(toml=SLATES, store=open_store(url)))


def test_a_history_moves_to_the_user_it_is_merged_into(kept: Shop) -> None:
    send(kept.client, event("anonymous", "c1"), event("anonymous", "c2"), event("known", "a1"))
    kept.post("/v1/users:block", user_id="anonymous", item_ids=["c5"])
    assert merged(kept, "anonymous", "known") == {"target_user_id": "known", "interactions": 3}
    shown = ids(recommend(kept.client, user_id="known", limit=500))
    assert not {"a1", "c1", "c2", "c5"} & set(shown)
    assert len(shown) == 26
    assert shown[0].startswith("c")
    stranger = recommend(kept.client, user_id="anonymous", limit=5)
    assert ids(stranger) == ids(recommend(kept.client, limit=5))


def test_merging_twice_is_merging_once(kept: Shop) -> None:
    send(kept.client, event("anonymous", "c1"), event("known", "a1"))
    first = merged(kept, "anonymous", "known")
    slate = ids(recommend(kept.client, user_id="known", limit=500))
    assert merged(kept, "anonymous", "known") == first
    assert ids(recommend(kept.client, user_id="known", limit=500)) == slate
    assert merged(kept, "never seen", "known") == first
    assert merged(kept, "never seen", "nor this") == {"target_user_id": "nor this", "interactions": 0}


def test_events_of_the_source_that_come_after_are_its_own_again(kept: Shop) -> None:
    send(kept.client, event("anonymous", "c1"))
    merged(kept, "anonymous", "known")
    send(kept.client, event("anonymous", "b1"))
    assert ids(recommend(kept.client, user_id="anonymous", limit=1))[0].startswith("b")
    assert ids(recommend(kept.client, user_id="known", limit=1))[0].startswith("c")


def test_a_user_is_not_merged_into_itself(shop: Shop) -> None:
    send(shop.client, event("u", "c1"))
    response = shop.post("/v1/users:merge", source_user_id="u", target_user_id="u")
    assert refused(response, 422)["field"] == "/target_user_id"
    assert len(shop.store.user_state("u").history) == 1


@pytest.mark.parametrize("route", ROUTES)
def test_a_blocked_item_is_shown_nowhere_until_it_is_unblocked(shop: Shop, route: str) -> None:
    everybody_takes_everything(shop)
    whole = slate_of(shop, route, user_id="u", limit=500)
    some = whole[:3]
    assert shop.post("/v1/users:block", user_id="u", item_ids=[*some, "unknown"]).json() == {"blocked": 4}
    assert shop.post("/v1/users:block", user_id="u", item_ids=some).json() == {"blocked": 4}
    assert not set(some) & set(slate_of(shop, route, user_id="u", limit=500))
    assert sorted(slate_of(shop, route, user_id="v", limit=500)) == sorted(whole)
    assert shop.post("/v1/users:unblock", user_id="u", item_ids=[some[0]]).json() == {"blocked": 3}
    assert some[0] in slate_of(shop, route, user_id="u", limit=500)
    assert some[1] not in slate_of(shop, route, user_id="u", limit=500)


def everywhere(shop: Shop, user: str) -> list[str]:
    """Where something of a user is found."""
    found = []
    if shop.store.user_state(user, with_served=True).version or len(
        shop.store.user_state(user, with_served=True).served
    ):
        found.append("state")
    found += ["event" for _, each in shop.store.read() if each.user_id == user]
    found += ["exposure" for _, each in shop.store.exposures() if each.user_id == user]
    found += ["merge" for each in shop.store.merges() if user in (each.source_user_id, each.target_user_id)]
    if shop.service.states.known.last_known(user) is not None:
        found.append("last known")
    return found


def lives(shop: Shop, user: str) -> str:
    """Somebody is merged, shown, clicks and blocks; the id of their last recommendation."""
    before = f"before {user}"
    send(shop.client, event(before, "b1"), event(user, "c1"), event(user, "c2"))
    merged(shop, before, user)
    shop.post("/v1/users:block", user_id=user, item_ids=["c5"])
    slates = [recommend(shop.client, user_id=user, surface="once", limit=3) for _ in range(2)]
    return str(slates[-1]["recommendation_id"])


def test_nothing_of_an_erased_user_is_left_and_the_receipt_counts_it(kept: Shop) -> None:
    recommendation_id = lives(kept, "ann")
    lives(kept, "bob")
    receipt = erased(kept, "ann")
    assert receipt["erased"] == {"states": 1, "served": 1, "events": 3, "exposures": 2, "merges": 1}
    assert "ann" not in receipt["user_hash"]
    assert receipt["remains"]
    assert everywhere(kept, "ann") == everywhere(kept, "before ann") == []
    assert set(everywhere(kept, "bob")) == {"state", "event", "exposure", "merge", "last known"}
    assert kept.client.get(f"/v1/recommendations/{recommendation_id}/trace").status_code == 404
    assert ids(recommend(kept.client, user_id="ann", limit=4)) == ids(recommend(kept.client, limit=4))
    again = erased(kept, "ann")
    assert again["user_hash"] == receipt["user_hash"]
    assert again["erased"]["states"] == again["erased"]["events"] == 0


def test_somebody_nobody_knows_is_erased_with_a_receipt_of_nothing(kept: Shop) -> None:
    assert set(erased(kept, "never seen")["erased"].values()) == {0}


def test_an_erased_user_who_comes_back_begins_anew(kept: Shop) -> None:
    lives(kept, "ann")
    erased(kept, "ann")
    send(kept.client, event("ann", "b4"))
    shown = ids(recommend(kept.client, user_id="ann", limit=500))
    assert len(shown) == 29
    assert shown[0].startswith("b")
    assert len(kept.store.user_state("ann").history) == 1


def test_an_erased_users_slate_is_none_of_the_last_known_while_the_store_is_down(shop: Shop) -> None:
    send(shop.client, event("ann", "c1"))
    recommend(shop.client, user_id="ann")
    erased(shop, "ann")
    shop.store.up = False
    reply = recommend(shop.client, user_id="ann", limit=4)
    assert "hydrate" in reply["degraded"]
    assert "c1" in ids(recommend(shop.client, user_id="ann", limit=500))


def test_what_waits_in_the_spool_is_erased_too(tmp_path: Path) -> None:
    parts = Parts()
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20)
    drainer = Drainer(spool, parts.store)  # nothing drains it but the erasure

    def spooled(service: Service) -> Service:
        exposures = Exposures(spool.append, lambda: drainer.drain_now() and None, spool.close)
        object.__setattr__(service, "expose", exposures.append)
        object.__setattr__(service, "drain", exposures.drain)
        return service

    parts.change = spooled
    with open_shop(parts) as running:
        recommend(running.client, user_id="ann")
        recommend(running.client, user_id="bob")
        assert list(running.store.exposures()) == []
        assert erased(running, "ann")["erased"]["exposures"] == 1
        assert [each.user_id for _, each in running.store.exposures()] == ["bob"]
    spool.close()


def test_while_the_store_is_down_nobody_is_said_to_be_erased_merged_or_blocked(shop: Shop) -> None:
    send(shop.client, event("ann", "c1"))
    shop.store.up = False
    for path, body in [
        ("/v1/users:erase", {"user_id": "ann"}),
        ("/v1/users:merge", {"source_user_id": "ann", "target_user_id": "bob"}),
        ("/v1/users:block", {"user_id": "ann", "item_ids": ["c2"]}),
        ("/v1/users:unblock", {"user_id": "ann", "item_ids": ["c2"]}),
    ]:
        response = shop.post(path, **body)
        refused(response, 503)
        assert response.headers["retry-after"]
    refused(shop.client.delete("/v1/users/ann"), 503)
    shop.store.up = True
    assert len(shop.store.user_state("ann").history) == 1


ANY_ID = st.text(
    st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=40
).filter(lambda text: not text.isspace())  # fmt: skip


def test_ids_of_users_and_items_are_any_text_through_every_route() -> None:
    with open_shop() as running:

        @settings(max_examples=40, deadline=None)
        @given(user=ANY_ID, item_id=ANY_ID.filter(lambda text: len(text) != 2), route=st.sampled_from(sorted(ROUTES)))
        def holds(user: str, item_id: str, route: str) -> None:
            running.post("/v1/items", item_id=item_id, title="gamma")
            assert send(running.client, event(user, item_id))["missing_ids"] == []
            assert item_id not in ids(recommend(running.client, user_id=user, limit=500))
            by_item = running.get("/v1/similar", item_id=item_id, user_id=user, limit=5)
            assert (by_item.status_code, by_item.json()["missing_ids"]) == (200, [])
            assert ids(by_item.json())[0] != item_id
            assert reply_of(running, route, user_id=user)["items"] or route == "trending"
            assert running.post("/v1/users:block", user_id=user, item_ids=["c1"]).status_code == 200
            assert "c1" not in ids(running.get("/v1/popular", user_id=user, limit=500).json())
            if not set("/.") & set(user):
                assert running.client.delete(f"/v1/users/{quote(user)}").json()["erased"]["states"] == 1
            assert erased(running, user)["user_hash"]
            assert everywhere(running, user) == []
            assert running.post("/v1/items:delete", item_ids=[item_id]).json()["deleted"] == 1

        holds()


@pytest.mark.parametrize("user", ["", "   ", "a\nb", "a\x00", "x" * 257, "\x7f", "\x85"])
def test_what_is_no_id_is_refused_by_name_on_every_route(shop: Shop, user: str) -> None:
    for route, (method, path, what) in ROUTES.items():
        ask = shop.get if method == "GET" else shop.post
        assert refused(ask(path, **what, user_id=user), 422)["field"] == "/user_id", route
    for path, body in [
        ("/v1/users:erase", {}),
        ("/v1/users:block", {"item_ids": ["a1"]}),
        ("/v1/users:unblock", {"item_ids": ["a1"]}),
    ]:
        assert refused(shop.post(path, user_id=user, **body), 422)["field"] == "/user_id"
    for source, target, field in [(user, "u", "source_user_id"), ("u", user, "target_user_id")]:
        response = shop.post("/v1/users:merge", source_user_id=source, target_user_id=target)
        assert refused(response, 422)["field"] == f"/{field}"
    assert list(shop.store.exposures()) == []


def test_an_id_of_256_characters_passes_and_none_longer(shop: Shop) -> None:
    longest = "影" * 256
    assert recommend(shop.client, user_id=longest)["items"]
    assert shop.client.delete(f"/v1/users/{quote(longest)}").status_code == 200
    refused(shop.client.delete(f"/v1/users/{quote(longest + 'x')}"), 422)
