from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.asking import event, ids, now, recommend, refused, send
from tests.serving.conftest import Serve
from tests.serving.world import FlakyStore, Shelf, release


def test_nobody_in_particular_gets_what_most_people_took(client: TestClient) -> None:
    reply = recommend(client, limit=5)
    assert ids(reply)[0] == "a0"
    assert len(reply["items"]) == 5
    assert reply["release"] == "r1"
    assert reply["degraded"] == []
    assert [item["position"] for item in reply["items"]] == [0, 1, 2, 3, 4]


def test_a_session_of_gamma_items_is_answered_with_gamma_items(client: TestClient) -> None:
    reply = recommend(client, session_id="s", history=[{"item_id": "c3"}, {"item_id": "c4", "occurred_at": now()}])
    first = ids(reply)[:3]
    assert all(item_id.startswith("c") for item_id in first)
    assert not {"c3", "c4"} & set(ids(reply))


def test_a_new_event_changes_the_very_next_answer(client: TestClient) -> None:
    before = ids(recommend(client, user_id="u", limit=5))
    send(client, event("u", "c9"))
    after = ids(recommend(client, user_id="u", limit=5))
    assert after[0].startswith("c")
    assert before != after


def test_a_seen_item_never_returns(client: TestClient) -> None:
    seen = [f"a{number}" for number in range(8)]
    send(client, *[event("u", item_id) for item_id in seen])
    reply = recommend(client, user_id="u", limit=500)
    assert len(reply["items"]) == 30 - 8
    assert not set(seen) & set(ids(reply))


def test_excluded_items_stay_away_and_unknown_ids_are_named(client: TestClient) -> None:
    reply = recommend(client, exclude_item_ids=["a0", "nowhere"], history=[{"item_id": "elsewhere"}], limit=30)
    assert "a0" not in ids(reply)
    assert sorted(reply["missing_ids"]) == ["elsewhere", "nowhere"]


def test_more_than_the_catalogue_is_all_of_it_once(client: TestClient) -> None:
    reply = recommend(client, limit=500)
    assert len(set(ids(reply))) == len(reply["items"]) == 30


def test_an_empty_catalogue_gives_an_empty_slate(serve: Serve, shelf: Shelf) -> None:
    shelf.releases["empty"] = release("empty", families=())
    shelf.pointer = "empty"
    reply = recommend(serve(), user_id="u", history=[{"item_id": "a1"}])
    assert reply["items"] == []
    assert reply["missing_ids"] == ["a1"]


def test_without_a_release_the_slate_is_empty_and_says_so(serve: Serve, shelf: Shelf) -> None:
    shelf.pointer = None
    reply = recommend(serve(), user_id="u")
    assert (reply["items"], reply["degraded"], reply["release"]) == ([], ["release"], "")


def test_explained_parts_add_up_to_the_value(client: TestClient) -> None:
    reply = recommend(client, history=[{"item_id": "b1"}], explain=True)
    for item in reply["items"]:
        assert sum(item["parts"].values()) == pytest.approx(item["value"], abs=1e-6)
        assert list(item["parts"]) == ["behaviour", "image", "text", "popularity", "rules", "base"]
    assert reply["items"][0]["because"] == ["b1"]
    assert reply["degraded"] == []
    assert [stage["name"] for stage in reply["trace"]] == [
        "hydrate", "encode", "retrieve", "filter", "rank", "choose", "explain", "expose",
    ]  # fmt: skip


def test_parts_and_trace_come_only_when_asked_for(client: TestClient) -> None:
    reply = recommend(client)
    assert "trace" not in reply
    assert all(set(item) == {"item_id", "value", "source", "reasons", "position"} for item in reply["items"])
    assert set(reply) == {
        "recommendation_id", "items", "release", "variants", "degraded", "missing_ids", "next_page_token",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"limitt": 3}, "/limitt"),
        ({"limit": 0}, "/limit"),
        ({"limit": 501}, "/limit"),
        ({"limit": "5"}, "/limit"),
        ({"user_id": ""}, "/user_id"),
        ({"user_id": "u" * 257}, "/user_id"),
        ({"user_id": 7}, "/user_id"),
        ({"user_id": "a\x00b"}, "/user_id"),
        ({"history": [{"item_id": "a1"}, {"item_id": "a2", "at": 1}]}, "/history/1/at"),
        ({"history": [{"item_id": "a1", "occurred_at": 1700000000}]}, "/history/0/occurred_at"),
        ({"history": [{"item_id": "a1", "occurred_at": "2026-05-01T12:00:00"}]}, "/history/0/occurred_at"),
        ({"history": [{"event_type": "view"}]}, "/history/0"),
        ({"exclude_item_ids": ["a", None]}, "/exclude_item_ids/1"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, Any], field: str) -> None:
    assert refused(client.post("/v1/recommendations", json=body), 422)["field"] == field


def test_ids_are_any_text_up_to_256_characters(client: TestClient) -> None:
    item_id = "影/片 ?&#" + "é" * 200
    send(client, event("ü/ser", item_id))
    assert recommend(client, user_id="ü/ser", exclude_item_ids=[item_id])["missing_ids"] == [item_id]


def test_a_store_that_is_down_degrades_the_slate(client: TestClient, store: FlakyStore) -> None:
    store.up = False
    reply = recommend(client, user_id="never seen")
    assert reply["items"]
    assert set(reply["degraded"]) >= {"hydrate", "expose"}


def test_while_the_store_is_down_a_known_user_keeps_a_personal_slate(client: TestClient, store: FlakyStore) -> None:
    send(client, event("u", "c0"))
    recommend(client, user_id="u")
    store.up = False
    reply = recommend(client, user_id="u", limit=3)
    assert "hydrate" in reply["degraded"]
    assert ids(reply)[0].startswith("c")
    assert "c0" not in ids(reply)
    store.up = True
    assert recommend(client, user_id="u", limit=3)["degraded"] == []


def test_a_slate_is_exposed_with_its_recommendation_id(client: TestClient, store: FlakyStore) -> None:
    reply = recommend(client, user_id="u", session_id="s", limit=4)
    ((_, exposure),) = list(store.exposures())
    assert exposure.recommendation_id == reply["recommendation_id"]
    assert list(exposure.item_ids) == ids(reply)
    assert (exposure.user_id, exposure.session_id, exposure.release) == ("u", "s", "r1")


def test_the_query_tower_runs_once_for_an_unchanged_history(client: TestClient, shelf: Shelf) -> None:
    tower: Any = shelf.load("r1").query_encoder
    send(client, event("u", "b1"))
    recommend(client, user_id="u")
    calls = tower.n_calls
    again = recommend(client, user_id="u")
    assert tower.n_calls == calls
    send(client, event("u", "c1"))
    assert ids(recommend(client, user_id="u")) != ids(again)
    assert tower.n_calls == calls + 1
