from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from serving.app import create_app
from tests.serving.asking import ids, recommend, soon
from tests.serving.conftest import Serve
from tests.serving.world import FlakyStore, Shelf, opener, release, settings


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


def test_a_published_release_takes_over_without_a_restart(client: TestClient, shelf: Shelf) -> None:
    assert recommend(client)["release"] == "r1"
    shelf.releases["r2"] = release("r2", families=("gamma",))
    shelf.pointer = "r2"
    soon(lambda: recommend(client)["release"] == "r2")
    assert all(item_id.startswith("c") for item_id in ids(recommend(client, limit=500)))


def test_a_rollback_takes_over_too(client: TestClient, shelf: Shelf) -> None:
    shelf.releases["r2"] = release("r2")
    for pointer in ("r2", "r1"):
        shelf.pointer = pointer
        soon(lambda pointer=pointer: recommend(client)["release"] == pointer)  # type: ignore[misc]


def test_a_swap_under_load_fails_no_request(client: TestClient, shelf: Shelf) -> None:
    for number in range(2, 6):
        families = ("alpha", "beta", "gamma")[: 1 + number % 3]
        shelf.releases[f"r{number}"] = release(f"r{number}", families=families)
    answers: list[tuple[int, str]] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            response = client.post("/v1/recommendations", json={"history": [{"item_id": "c1"}], "limit": 30})
            answers.append((response.status_code, response.json().get("release", response.text)))

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(load)
        for number in range(2, 6):
            shelf.pointer = f"r{number}"
            soon(lambda number=number: answers and answers[-1][1] == f"r{number}")  # type: ignore[misc]
        done.set()
    assert {status for status, _ in answers} == {200}
    assert {served for _, served in answers} >= {"r2", "r3", "r4", "r5"}


def test_a_corrupt_release_is_refused_and_the_old_one_keeps_serving(client: TestClient, shelf: Shelf) -> None:
    shelf.releases["broken"] = None
    shelf.pointer = "broken"
    soon(lambda: metric(client, "recsys_release_refused_total") >= 1)
    reply = recommend(client)
    assert (reply["release"], reply["degraded"]) == ("r1", [])
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"
    assert "broken" in ready.json()["reasons"][0]


def test_after_a_rollback_to_the_release_that_serves_all_is_well_again(client: TestClient, shelf: Shelf) -> None:
    shelf.releases["broken"] = None
    shelf.pointer = "broken"
    soon(lambda: client.get("/readyz").json()["status"] == "degraded")
    shelf.pointer = "r1"
    soon(lambda: client.get("/readyz").json()["status"] == "ready")


def test_a_pointer_that_cannot_be_read_is_refused_like_a_release(client: TestClient, shelf: Shelf) -> None:
    shelf.pointer_is_broken = True
    soon(lambda: metric(client, "recsys_release_refused_total") == 1)
    assert recommend(client)["release"] == "r1"
    shelf.pointer_is_broken = False
    soon(lambda: client.get("/readyz").json()["status"] == "ready")


def test_a_refused_release_is_not_tried_at_every_poll(client: TestClient, shelf: Shelf) -> None:
    shelf.releases["broken"] = None
    shelf.pointer = "broken"
    soon(lambda: metric(client, "recsys_release_refused_total") >= 1)
    threading.Event().wait(0.3)  # six polls
    assert metric(client, "recsys_release_refused_total") == 1


def test_a_refused_release_that_was_mended_is_taken(serve: Serve, shelf: Shelf) -> None:
    client = serve(retry_refused_release_s=0.1)
    shelf.releases["r2"] = None
    shelf.pointer = "r2"
    soon(lambda: metric(client, "recsys_release_refused_total") >= 1)
    shelf.releases["r2"] = release("r2")
    soon(lambda: recommend(client)["release"] == "r2")
    assert client.get("/readyz").json()["status"] == "ready"


def test_a_release_whose_query_tower_gives_nonsense_is_refused(client: TestClient, shelf: Shelf) -> None:
    class Nonsense:
        dim = 8

        def encode(self, *_: Any) -> Any:
            return np.full(8, np.nan, np.float32)

    shelf.releases["nan"] = replace(release("nan"), query_encoder=Nonsense())
    shelf.pointer = "nan"
    soon(lambda: metric(client, "recsys_release_refused_total") >= 1)
    assert recommend(client)["release"] == "r1"


def test_a_service_that_starts_on_a_corrupt_release_lives_and_says_so(serve: Serve, shelf: Shelf) -> None:
    shelf.releases["broken"] = None
    shelf.pointer = "broken"
    client = serve()
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert "broken" in ready.json()["detail"]
    assert recommend(client)["degraded"] == ["release"]


def test_a_service_that_starts_on_a_corrupt_release_serves_the_one_before(serve: Serve, shelf: Shelf) -> None:
    shelf.releases["broken"] = None
    shelf.pointer, shelf.before = "broken", "r1"
    client = serve(retry_refused_release_s=0.1)
    assert recommend(client)["release"] == "r1"
    assert client.get("/readyz").json()["status"] == "degraded"
    shelf.releases["broken"] = release("broken")
    soon(lambda: recommend(client)["release"] == "broken")
    assert client.get("/readyz").json()["status"] == "ready"


def test_upserts_that_cannot_be_read_for_too_long_are_said(serve: Serve, store: FlakyStore) -> None:
    client = serve(stale_after_s=0.2)
    assert recommend(client)["degraded"] == []
    store.up = False
    soon(lambda: "live_items" in recommend(client)["degraded"])
    store.up = True
    soon(lambda: recommend(client)["degraded"] == [])


def test_a_store_that_lost_its_items_is_read_anew(client: TestClient, store: FlakyStore) -> None:
    client.post("/v1/items", json={"item_id": "new", "title": "gamma"})
    client.post("/v1/items", json={"item_id": "a0", "hidden": True})
    store.forget_items()
    soon(lambda: "a0" in ids(recommend(client, limit=500)))
    assert "new" not in ids(recommend(client, limit=500))


def test_two_services_in_one_process_do_not_mix(tmp_path: Any) -> None:
    shelves = [Shelf(), Shelf({"other": release("other")}, "other")]
    apps = [create_app(settings(tmp_path), open_service=opener(FlakyStore(), shelf)) for shelf in shelves]
    with TestClient(apps[0]) as first, TestClient(apps[1]) as second:
        assert (recommend(first)["release"], recommend(second)["release"]) == ("r1", "other")
        recommend(first)
        assert metric(first, "recsys_slates_total") == 2
        assert metric(second, "recsys_slates_total") == 1
