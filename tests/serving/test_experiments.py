"""Experiments under a running service: what a variant changes, what records it, and the file edited meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from recsys.config import load_config
from recsys.events import Exposure
from recsys.workspace import CONFIG_NAME, WorkspaceConfig
from serving.app import create_app
from serving.bootstrap import longest_served_s, open_service, service_over
from serving.live_config import ConfigWatcher
from serving.service import Service
from serving.settings import Settings
from serving.telemetry import Telemetry
from tests.serving.asking import ids, recommend, refused, soon
from tests.serving.world import FlakyStore, Shelf, settings

PINNED = """
[experiments.pinned]
variants = { control = { weight = 0.5 }, treatment = { weight = 0.5, pins = { c9 = 0 } } }
"""
USERS = [f"user-{number}" for number in range(12)]
ServeFile = Callable[[str], TestClient]


def write(folder: Path, text: str) -> None:
    (folder / "new").write_text(text, encoding="utf-8")
    os.replace(folder / "new", folder / CONFIG_NAME)


@pytest.fixture
def serve_file(tmp_path: Path, store: FlakyStore, shelf: Shelf) -> Iterator[ServeFile]:
    """Starts the service on a recsys.toml with this text, which it follows."""
    with ExitStack() as stack:

        def start(text: str) -> TestClient:
            write(tmp_path, text)
            config = load_config(tmp_path / CONFIG_NAME, WorkspaceConfig)

            def opened(given: Settings, telemetry: Telemetry) -> Service:
                watcher = ConfigWatcher(tmp_path, config, poll_s=0.02)
                return service_over(store, shelf, shelf.load, given, telemetry, watcher=watcher)

            given = replace(settings(tmp_path), config=config, recommender=config.recommender)
            return stack.enter_context(TestClient(create_app(given, open_service=opened)))

        yield start


def assigned(client: TestClient, **of: str) -> dict[str, str]:
    response = client.get("/v1/experiments/assignment", params=of)
    assert response.status_code == 200, response.text
    return dict(response.json()["variants"])


def exposures(store: FlakyStore) -> dict[str, Exposure]:
    return {each.recommendation_id: each for _, each in store.exposures()}


def test_a_variant_changes_the_slate_of_its_users_alone(serve_file: ServeFile) -> None:
    client = serve_file(PINNED)
    replies = {user: recommend(client, user_id=user, limit=5) for user in USERS}
    variants = {user: reply["variants"]["pinned"] for user, reply in replies.items()}
    assert set(variants.values()) == {"control", "treatment"}
    assert {user: ids(reply)[0] == "c9" for user, reply in replies.items()} == {
        user: variant == "treatment" for user, variant in variants.items()
    }
    assert {user: recommend(client, user_id=user)["variants"]["pinned"] for user in USERS} == variants
    assert {user: assigned(client, user_id=user)["pinned"] for user in USERS} == variants


def test_the_exposure_and_the_trace_tell_the_variant(serve_file: ServeFile, store: FlakyStore) -> None:
    client = serve_file(PINNED)
    for user in USERS[:4]:
        reply = recommend(client, user_id=user)
        assert exposures(store)[reply["recommendation_id"]].variants == reply["variants"] != {}
        trace = client.get(f"/v1/recommendations/{reply['recommendation_id']}/trace").json()
        assert trace["variants"] == reply["variants"]


def test_every_kind_of_request_for_items_is_part_of_it(serve_file: ServeFile, store: FlakyStore) -> None:
    client = serve_file(PINNED)
    of = {"user_id": USERS[0]}
    replies = [
        client.post("/v1/rank", json={**of, "item_ids": ["a1", "b1"]}),
        client.post("/v1/search", json={**of, "item_id": "a1"}),
        client.post("/v1/refine", json={**of, "item_id": "a1", "text": "gamma"}),
        client.get("/v1/items/a1/similar", params=of),
        client.get("/v1/popular", params=of),
        client.get("/v1/trending", params=of),
    ]
    for reply in (response.json() for response in replies):
        assert reply["variants"] == assigned(client, **of)
        if reply["items"]:
            assert exposures(store)[reply["recommendation_id"]].variants == reply["variants"]


def test_without_a_user_and_a_session_nothing_is_assigned(serve_file: ServeFile) -> None:
    client = serve_file(PINNED)
    reply = recommend(client)
    assert reply["variants"] == {}
    assert ids(reply)[0] == "a0"
    assert recommend(client, session_id="s")["variants"] == assigned(client, session_id="s") != {}


def test_the_next_page_is_of_the_same_variant(serve_file: ServeFile) -> None:
    client = serve_file(PINNED)
    for user in USERS[:4]:
        first = recommend(client, user_id=user, limit=5)
        second = recommend(client, user_id=user, limit=5, page_token=first["next_page_token"])
        assert second["variants"] == first["variants"]
        assert not set(ids(first)) & set(ids(second))


def test_an_edit_of_an_experiment_is_in_force_without_a_restart(serve_file: ServeFile, tmp_path: Path) -> None:
    client = serve_file("")
    assert recommend(client, user_id=USERS[0])["variants"] == {}
    write(tmp_path, PINNED)
    soon(lambda: set(recommend(client, user_id=USERS[0])["variants"]) == {"pinned"})
    treated = next(user for user in USERS if assigned(client, user_id=user)["pinned"] == "treatment")
    write(tmp_path, PINNED.replace("c9", "c8"))
    soon(lambda: ids(recommend(client, user_id=treated))[0] == "c8")
    write(tmp_path, PINNED.replace("control =", "contrl ="))
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    soon(lambda: "must hold `control`" in (service.config_problem() or ""))
    reply = recommend(client, user_id=treated)
    assert (reply["variants"], ids(reply)[0]) == ({"pinned": "treatment"}, "c8")
    write(tmp_path, "")
    soon(lambda: recommend(client, user_id=treated)["variants"] == {})
    assert ids(recommend(client, user_id=treated))[0] == "a0"


def test_an_experiment_that_is_over_or_not_yet_begun_changes_nothing(serve_file: ServeFile) -> None:
    over = PINNED.replace("variants", "ends_at = 2020-01-01T00:00:00Z\nvariants")
    later = PINNED.replace("pinned", "later").replace("variants", "starts_at = 2999-01-01T00:00:00Z\nvariants")
    client = serve_file(over + later)
    for user in USERS:
        reply = recommend(client, user_id=user)
        assert reply["variants"] == {}
        assert ids(reply)[0] == "a0"
        assert assigned(client, user_id=user) == {}


def test_a_user_is_in_one_experiment_of_a_layer_at_most(serve_file: ServeFile) -> None:
    one = PINNED.replace("variants", 'layer = "top"\ntraffic = [0.0, 0.5]\nvariants')
    two = one.replace("pinned", "other").replace("[0.0, 0.5]", "[0.5, 1.0]").replace("c9", "c8")
    client = serve_file(one + two)
    both = [set(recommend(client, user_id=user)["variants"]) for user in USERS]
    assert all(len(each) == 1 for each in both)
    assert set.union(*both) == {"pinned", "other"}


def test_independent_experiments_meet_in_one_slate(serve_file: ServeFile) -> None:
    shorter = "[experiments.shorter]\nvariants = { control = { weight = 0.5 }, short = { weight = 0.5, limit = 3 } }\n"
    client = serve_file(PINNED + shorter)
    met = set()
    for user in USERS:
        reply = recommend(client, user_id=user)
        met.add(tuple(reply["variants"].values()))
        assert len(reply["items"]) == (3 if reply["variants"]["shorter"] == "short" else 20)
        assert (ids(reply)[0] == "c9") == (reply["variants"]["pinned"] == "treatment")
    assert ("treatment", "short") in met


def test_a_variant_lies_over_its_surface_and_stays_on_it(serve_file: ServeFile) -> None:
    text = "[surfaces.home]\nlimit = 7\n[surfaces.basket]\n" + PINNED.replace(
        "variants", 'surfaces = ["home"]\nvariants'
    )
    client = serve_file(text)
    for user in USERS:
        variant = assigned(client, user_id=user, surface="home")["pinned"]
        home = recommend(client, user_id=user, surface="home")
        assert len(home["items"]) == 7
        assert (ids(home)[0] == "c9") == (variant == "treatment")
        assert recommend(client, user_id=user, surface="basket")["variants"] == {}
        assert assigned(client, user_id=user) == {}


def test_the_assignment_of_nobody_or_on_no_surface_is_refused(serve_file: ServeFile) -> None:
    client = serve_file(PINNED)
    assert "user_id" in refused(client.get("/v1/experiments/assignment"), 422)["detail"]
    problem = refused(client.get("/v1/experiments/assignment?user_id=u&surface=hom"), 422)
    assert "there is no surface 'hom'" in problem["detail"]
    refused(client.get("/v1/experiments/assignment?user_id=u&limit=3"), 422)
    refused(client.get("/v1/experiments/assignment", params={"user_id": "a\x00b"}), 422)


def test_an_expression_of_a_variant_that_is_none_is_refused_and_told_where_it_stands(tmp_path: Path) -> None:
    write(tmp_path, PINNED.replace("pins = { c9 = 0 }", "filter = 'price <'"))
    config = load_config(tmp_path / CONFIG_NAME, WorkspaceConfig)
    service = open_service(replace(settings(tmp_path), config=config), Telemetry(None))
    watcher = service.background[-1]
    watcher.start()
    try:
        soon(lambda: service.config_problem())
    finally:
        watcher.stop()
        service.close()
    assert "experiments.pinned.variants.treatment" in str(service.config_problem())


def test_what_was_served_is_kept_as_long_as_any_variant_needs_it(tmp_path: Path) -> None:
    write(tmp_path, PINNED.replace("pins = { c9 = 0 }", "exclude_recently_served_s = 90"))
    config = load_config(tmp_path / CONFIG_NAME, WorkspaceConfig)
    assert longest_served_s(config.resolved_surfaces()) == 90
