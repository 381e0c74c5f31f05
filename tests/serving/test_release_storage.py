"""The service while the place where releases lie is silent, slow, or holds something damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from recsys.errors import StoreUnavailable
from recsys.recommender import RecommenderConfig
from recsys.release import LoadedRelease
from recsys.releases_config import ReleasesConfig
from recsys.serving_config import ServingConfig
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.remote_releases import RemoteReleaseStore
from recsys.workspace import Workspace
from serving.app import create_app
from serving.settings import Settings
from tests.serving.asking import recommend, soon
from tests.serving.conftest import Serve
from tests.serving.world import Shelf, release
from tests.worlds.release_stores import Place


def metric(client: TestClient, name: str) -> float:
    found = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(found[0].split()[-1]) if found else 0.0


def status(client: TestClient) -> str:
    return str(client.get("/readyz").json()["status"])


def test_while_storage_is_silent_the_old_release_goes_on_and_it_is_said(client: TestClient, shelf: Shelf) -> None:
    shelf.is_silent = True
    soon(lambda: metric(client, 'recsys_store_errors_total{call="releases"}') >= 2)
    assert recommend(client)["release"] == "r1"
    assert client.get("/readyz").json()["reasons"] == [
        "the release store does not answer; the release known last goes on"
    ]
    shelf.releases["r2"] = release("r2")
    shelf.pointer, shelf.is_silent = "r2", False
    soon(lambda: recommend(client)["release"] == "r2")
    soon(lambda: status(client) == "ready")
    assert metric(client, "recsys_release_refused_total") == 0
    soon(lambda: shelf.held == "r2")


def test_a_service_that_starts_without_storage_serves_the_release_known_last(serve: Serve, shelf: Shelf) -> None:
    shelf.is_silent, shelf.known = True, "r1"
    client = serve()
    assert recommend(client)["release"] == "r1"
    assert status(client) == "degraded"
    shelf.is_silent = False
    soon(lambda: status(client) == "ready")


def test_a_service_that_starts_without_storage_and_knows_nothing_waits_for_it(serve: Serve, shelf: Shelf) -> None:
    shelf.is_silent = True
    client = serve()
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["detail"]) == (503, "the release store does not answer: see the log")
    assert recommend(client)["degraded"] == ["release"]
    shelf.is_silent = False
    soon(lambda: client.get("/readyz").status_code == 200)
    assert recommend(client)["release"] == "r1"


def test_a_pull_that_breaks_off_is_no_fault_of_the_release(
    client: TestClient, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken_off = shelf.load, threading.Event()

    def load(release_id: str) -> LoadedRelease:
        if release_id == "r2" and not broken_off.is_set():
            broken_off.set()
            raise StoreUnavailable("the connection was reset")
        return whole(release_id)

    monkeypatch.setattr(Shelf, "load", lambda shelf, release_id: load(release_id))
    client.app.state.service.releases._load = load  # type: ignore[attr-defined]
    shelf.releases["r2"] = release("r2")
    shelf.pointer = "r2"
    soon(lambda: recommend(client)["release"] == "r2")
    assert broken_off.is_set()
    assert metric(client, "recsys_release_refused_total") == 0


def test_a_slow_pull_holds_up_neither_answers_nor_upserts(client: TestClient, shelf: Shelf) -> None:
    arrived, releases = threading.Event(), client.app.state.service.releases  # type: ignore[attr-defined]
    whole = releases._load

    def load(release_id: str) -> LoadedRelease:
        arrived.wait(30)
        return whole(release_id)  # type: ignore[no-any-return]

    releases._load = load
    shelf.releases["r2"] = release("r2")
    shelf.pointer = "r2"
    try:
        soon(releases._loading.locked)
        assert client.post("/v1/items", json={"item_id": "a-new-one", "title": "new"}).status_code == 200
        soon(lambda: releases.upserted("a-new-one") is not None)
        assert recommend(client)["release"] == "r1"
    finally:
        arrived.set()
    soon(lambda: recommend(client)["release"] == "r2")


def test_a_release_that_cannot_be_held_serves_all_the_same(
    client: TestClient, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(shelf: Shelf, release_id: str) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Shelf, "hold", refuse)
    shelf.releases["r2"] = release("r2")
    shelf.pointer = "r2"
    soon(lambda: recommend(client)["release"] == "r2")
    assert status(client) == "ready"


@pytest.fixture
def place(released: Workspace, tmp_path: Path) -> Place:
    """A folder on a shared disk with the one release of a real workspace, published."""
    place, local = Place(f"file://{tmp_path}/shared", tmp_path), LocalReleaseStore(released.root)
    manifest = local.manifest(str(local.current()))
    store = place.remote("publisher")
    store.put({name: local.open(manifest, name) for name in manifest.files}, manifest)
    store.publish(manifest.release_id)
    return place


@contextmanager
def host(place: Place, root: Path) -> Iterator[TestClient]:
    """The service as its own bootstrap joins it, with its own cache in `root`."""
    root.mkdir(exist_ok=True)
    serving = ServingConfig(store_url="memory://", release_poll_s=0.05, retry_refused_release_s=0.2)
    releases = ReleasesConfig(url=place.url, cache_dir="cache")
    with TestClient(create_app(Settings(root, serving, RecommenderConfig(), releases=releases))) as client:
        yield client


def test_a_damaged_object_is_refused_and_the_mended_one_is_taken(
    place: Place, released: Workspace, tmp_path: Path
) -> None:
    local = LocalReleaseStore(released.root)
    manifest = local.manifest(str(local.current()))
    place.damage(manifest, "item_vectors.npy")
    with host(place, tmp_path / "host") as client:
        assert "was refused" in client.get("/readyz").json()["detail"]
        place.remote("publisher").put({name: local.open(manifest, name) for name in manifest.files}, manifest)
        soon(lambda: client.get("/readyz").status_code == 200, within_s=10)
        assert recommend(client)["release"] == manifest.release_id


def test_a_host_that_lost_its_network_starts_from_its_cache(place: Place, tmp_path: Path) -> None:
    with host(place, tmp_path / "host") as client:
        assert status(client) == "ready"
        release_id = recommend(client)["release"]

    def silent(*_: object, **__: object) -> object:
        raise StoreUnavailable("the network is gone")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("recsys.storage.remote_folder.RemoteFolder._asked", silent)
        with host(place, tmp_path / "host") as client:
            assert (recommend(client)["release"], status(client)) == (release_id, "degraded")
        with host(place, tmp_path / "another") as client:
            assert client.get("/readyz").status_code == 503
    assert RemoteReleaseStore(place.url, tmp_path / "host" / "cache").last_known() == release_id
