from __future__ import annotations

from starlette.testclient import TestClient

from tests.serving.asking import event, recommend, refused, send, soon
from tests.serving.conftest import Serve
from tests.serving.world import FlakyStore, Shelf


def test_ready_means_that_a_release_answers(client: TestClient) -> None:
    assert client.get("/readyz").json() == {"status": "ready", "release": "r1", "n_items": 30}


def test_without_a_release_the_process_lives_and_is_not_ready(serve: Serve, shelf: Shelf) -> None:
    shelf.pointer = None
    client = serve()
    assert client.get("/healthz").status_code == 200
    response = client.get("/readyz")
    assert "recsys release build --publish" in refused(response, 503)["detail"]
    assert response.headers["retry-after"]


def test_it_is_ready_as_soon_as_a_release_is_published(serve: Serve, shelf: Shelf) -> None:
    shelf.pointer = None
    client = serve()
    shelf.pointer = "r1"
    soon(lambda: client.get("/readyz").status_code == 200)


def test_a_store_that_is_down_does_not_make_it_unready(client: TestClient, store: FlakyStore) -> None:
    store.up = False
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "degraded"


def test_the_readiness_query_is_no_exposure(client: TestClient, store: FlakyStore) -> None:
    client.get("/readyz")
    assert list(store.exposures()) == []


def test_metrics_count_what_happened(client: TestClient, store: FlakyStore) -> None:
    recommend(client, user_id="u")
    send(client, event("u", "a1"), event("u", "a1", occurred_at=5))
    store.up = False
    recommend(client, user_id="u")
    text = client.get("/metrics").text
    for line in (
        'recsys_request_seconds_count{route="/v1/recommendations",status="200"} 2.0',
        'recsys_events_total{status="accepted"} 1.0',
        'recsys_events_total{status="rejected"} 1.0',
        'recsys_degraded_total{stage="hydrate"} 1.0',
        'recsys_cache_requests_total{cache="user_state",result="hit"} 1.0',
        'recsys_store_errors_total{call="user_state"} 1.0',
        'recsys_release_info{release="r1"} 1.0',
        'recsys_stage_seconds_count{stage="retrieve"} 2.0',
        "recsys_items 30.0",
    ):
        assert line in text, line


def test_an_unknown_path_is_one_route_in_the_metrics(client: TestClient) -> None:
    for number in range(3):
        client.get(f"/v1/guess/{number}")
    assert 'recsys_request_seconds_count{route="unmatched",status="404"} 3.0' in client.get("/metrics").text
