"""What a store in another place has to stand: broken uploads, damaged copies, silent storage, several processes."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import ConfigError, CorruptArtifact, EnvironmentProblem, MissingArtifact, StoreUnavailable
from recsys.storage.pointer_chain import KEPT, PointerRecord
from recsys.storage.remote_folder import RemoteFolder
from recsys.storage.remote_releases import RemoteReleaseStore
from recsys.storage.transfers import Transfer
from tests.worlds.release_stores import NUMBERS, Place, put, release


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind that needs no server."""
    urls = {"memory": f"memory://alone-{next(NUMBERS)}", "file": f"file://{tmp_path}/shared"}
    return Place(urls[request.param], tmp_path)


class Broken(RemoteFolder):
    """Storage that a publisher loses after some writes, or that everybody loses."""

    def __init__(self, place: Place, n_writes: int) -> None:
        super().__init__(place.url, place.options)
        self.n_writes = n_writes

    def _asked(self, what: str, ask: Any, **more: Any) -> Any:
        if what.startswith("write"):
            if self.n_writes == 0:
                raise StoreUnavailable("the network is gone")
            self.n_writes -= 1
        return super()._asked(what, ask, **more)


def objects(place: Place) -> list[str]:
    return place.remote_folder().below("objects")


def cut_off(store: RemoteReleaseStore) -> None:
    """From now on nothing that this store asks for is answered."""

    def silence(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("nobody answers")

    store._folder._asked = silence  # type: ignore[method-assign]


def test_an_upload_that_breaks_off_anywhere_leaves_no_release_and_is_completed_by_the_next(
    place: Place, tmp_path: Path
) -> None:
    files, manifest = release(tmp_path, index="faiss", vectors="0.1", tower="onnx")
    n_writes = 0
    while True:
        store = place.remote()
        store._folder = Broken(place, n_writes)
        try:
            store.put(files, manifest)
        except StoreUnavailable:
            assert place.remote("b").list() == []
            with pytest.raises(MissingArtifact):
                place.remote("b").publish(manifest.release_id)
            n_writes += 1
            continue
        break
    assert n_writes == 1 + 1 + 1  # each run went on where the one before had stopped; the time and the manifest remain
    assert place.remote("b").list() == [manifest.release_id]


def test_each_object_is_uploaded_once(place: Place, tmp_path: Path) -> None:
    uploads: list[Transfer] = []
    store = place.remote(on_transfer=uploads.append)
    put(store, tmp_path, index="one", tower="same", also="same")
    put(store, tmp_path, index="two", tower="same", also="same")
    assert sorted(each.name for each in uploads if each.what == "upload") == ["also", "index", "index"]
    assert len(objects(place)) == 3


def test_a_release_with_an_object_that_is_gone_or_cut_short_is_not_published(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss", tower="onnx")
    store = place.remote()
    store.put(files, manifest)
    sha256 = manifest.files["index"].sha256
    path = f"objects/{sha256[:2]}/{sha256}"
    place.remote_folder().write(path, b"fai")
    with pytest.raises(MissingArtifact, match=r"index of release .* is gone or not whole .*recsys release build"):
        store.publish(manifest.release_id)
    place.remote_folder().remove(path)
    with pytest.raises(MissingArtifact, match="index of release"):
        store.publish(manifest.release_id)
    with pytest.raises(MissingArtifact, match=r"index of release .* is gone"):
        store.open(manifest, "index")
    assert store.current() is None
    store.put(files, manifest)
    store.publish(manifest.release_id)


def test_what_was_pulled_is_not_asked_for_again(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss", tower="onnx")
    place.remote("publisher").put(files, manifest)
    place.remote("publisher").publish(manifest.release_id)
    pulled: list[Transfer] = []
    store = place.remote("b", on_transfer=pulled.append)
    assert store.current() == manifest.release_id
    for name in (*files, *files):
        store.open(store.manifest(manifest.release_id), name)
    assert [(each.name, each.done_bytes, each.size_bytes) for each in pulled] == [("index", 5, 5), ("tower", 4, 4)]


def test_without_a_network_the_release_known_last_can_be_opened(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss")
    store = place.remote("publisher")
    store.put(files, manifest)
    store.publish(manifest.release_id)
    before = place.remote("b")
    before.open(before.manifest(str(before.current())), "index")
    started = place.remote("b")
    cut_off(started)
    with pytest.raises(StoreUnavailable):
        started.current()
    assert started.last_known() == manifest.release_id
    assert started.open(started.manifest(manifest.release_id), "index").read_text() == "faiss"
    elsewhere = place.remote("c")
    cut_off(elsewhere)
    assert elsewhere.last_known() is None
    started.hold(manifest.release_id)  # nor does that need a network


def test_a_damaged_copy_is_pulled_again(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss")
    place.remote("publisher").put(files, manifest)
    store = place.remote("b")
    path = store.open(manifest, "index")
    for damage in (b"fbiss", b"fa", b""):
        path.chmod(0o644)
        path.write_bytes(damage)
        assert store.open(manifest, "index").read_bytes() == b"faiss"
    path.unlink()
    assert store.open(manifest, "index").read_bytes() == b"faiss"
    cached = place.cache_dir("b") / "releases" / manifest.release_id / "manifest.json"
    store.manifest(manifest.release_id)
    cached.write_text("{")
    assert store.manifest(manifest.release_id) == manifest


def test_what_a_killed_pull_left_is_removed_by_the_next(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss")
    place.remote("publisher").put(files, manifest)
    sha256 = manifest.files["index"].sha256
    shard = place.cache_dir("b") / "objects" / sha256[:2]
    (shard / ".tmp-killed").mkdir(parents=True)
    (shard / ".tmp-killed" / sha256).write_bytes(b"fa")
    place.remote("b").open(manifest, "index")
    assert [path.name for path in shard.iterdir()] == [sha256]


def test_a_damaged_pointer_is_said_and_the_next_publish_mends_it(place: Place, tmp_path: Path) -> None:
    store = place.remote()
    first, second = (put(store, tmp_path, index=text) for text in ("1", "2"))
    store.publish(first)
    place.remote_folder().write("pointers/000000000001.json", b"{")
    with pytest.raises(CorruptArtifact, match="names no release: publish one again"):
        place.remote("b").current()
    store.publish(second)
    assert (place.remote("b").current(), place.remote("b").previous()) == (second, None)


def test_the_cache_keeps_what_is_current_or_before_it_or_held_and_no_more(place: Place, tmp_path: Path) -> None:
    publisher, store, other = place.remote("publisher"), place.remote("b", keep=1), place.remote("b", keep=1)
    ids = [put(publisher, tmp_path, index=str(number), same="same") for number in range(6)]

    def serve(host: RemoteReleaseStore, release_id: str) -> None:
        manifest = host.manifest(release_id)
        for name in manifest.files:
            host.open(manifest, name)
        host.hold(release_id)

    def cached() -> set[int]:
        kept = {path.parent.name for path in place.cache_dir("b").glob("releases/*/manifest.json")}
        texts = {path.read_text() for path in place.cache_dir("b").glob("objects/*/*")}
        assert texts == {"same", *(str(ids.index(each)) for each in kept)}
        return {ids.index(each) for each in kept}

    publisher.publish(ids[0])
    other.current()
    serve(other, ids[0])  # and stays on it, as a process does whose later releases are refused
    for number in range(1, 6):
        publisher.publish(ids[number])
        assert store.current() == ids[number]
        serve(store, ids[number])
    assert cached() == {0, 4, 5}
    serve(other, ids[5])
    assert cached() == {4, 5}


def test_old_records_of_the_pointer_are_removed_and_the_last_ones_never(place: Place, tmp_path: Path) -> None:
    store, sleeper = place.remote(), place.remote("sleeper")
    first, second = (put(store, tmp_path, index=text) for text in ("1", "2"))
    store.publish(first)
    assert sleeper.current() == first
    fill_chain(place, 2, KEPT + 20, first)
    late = place.remote("late")
    late.publish(second)
    numbers = [name for name in place.remote_folder().names("pointers") if name.endswith(".json")]
    assert numbers[0] == f"{22:012}.json"
    assert len(numbers) == KEPT
    assert (late.current(), late.previous()) == (second, first)
    # It was away for more records than are kept, and finds its way by the next listing.
    assert second in {sleeper.current() for _ in range(61)}


def test_a_publisher_that_slept_through_the_removal_of_its_number_publishes_nothing(
    place: Place, tmp_path: Path
) -> None:
    store, sleeper = place.remote(), place.remote("sleeper")
    first, second = (put(store, tmp_path, index=text) for text in ("1", "2"))
    store.publish(first)
    latest = sleeper._pointers.listed()
    fill_chain(place, 3, KEPT + 20, first)  # number 2 has come and gone
    assert sleeper._pointers.follow(latest, second, first) is False
    assert place.remote("b").current() == first
    assert f"{2:012}.json" not in place.remote_folder().names("pointers")


def fill_chain(place: Place, start: int, stop: int, release_id: str) -> None:
    folder = place.remote_folder()
    for generation in range(start, stop + 1):
        record = PointerRecord(
            generation=generation, release_id=release_id, replaced=release_id, at=datetime(2024, 5, 1, tzinfo=UTC)
        )
        folder.write(f"pointers/{generation:012}.json", record.model_dump_json().encode())


def test_storage_that_overwrites_what_it_should_create_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(f"memory://alone-{next(NUMBERS)}", tmp_path)
    store = place.remote()
    release_id = put(store, tmp_path, index="1")
    careless = store._folder.write

    def create(name: str, data: bytes) -> bool:  # as a server does that does not know If-None-Match
        careless(name, data)
        return True

    monkeypatch.setattr(store._folder, "create", create)
    with pytest.raises(EnvironmentProblem, match="overwrites where it was told to create only"):
        store.publish(release_id)
    assert store.current() is None


@pytest.mark.parametrize("url", ["ftp://host/releases", "abfs://container/releases", "releases", "https://host/a"])
def test_storage_of_which_nothing_is_known_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="url under"):
        RemoteReleaseStore(url, tmp_path)


def test_storage_that_does_not_answer_is_not_storage_without_releases(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    options = {
        "endpoint_url": "http://127.0.0.1:9",
        "key": "k",
        "secret": "s",
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    store = RemoteReleaseStore("s3://nobody/releases", tmp_path / "cache", options=options, timeout_s=1.0)
    for ask in (store.current, store.previous, store.list, lambda: store.manifest("0" * 64)):
        with pytest.raises(StoreUnavailable, match="check url under"):
            ask()


@pytest.fixture
def shared(tmp_path: Path) -> Place:
    return Place(f"file://{tmp_path}/shared", tmp_path)


def pull_and_count(url: str, cache_dir: Path, release_id: str, barrier: Any, counts: Any) -> None:
    pulled: list[Transfer] = []
    store = RemoteReleaseStore(url, cache_dir, on_transfer=pulled.append)
    barrier.wait(30)
    manifest = store.manifest(release_id)
    for name in manifest.files:
        store.open(manifest, name)
    counts.put(len(pulled))


def test_processes_of_one_host_pull_each_object_once(shared: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, **{f"file{number}": str(number) * 100_000 for number in range(8)})
    shared.remote("publisher").put(files, manifest)
    context = multiprocessing.get_context("spawn")
    barrier, counts = context.Barrier(3), context.Queue()
    arguments = (shared.url, shared.cache_dir("b"), manifest.release_id, barrier, counts)
    processes = [context.Process(target=pull_and_count, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(counts.get(timeout=60) for _ in processes) == len(files)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
