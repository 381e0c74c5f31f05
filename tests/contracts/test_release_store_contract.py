"""What every release store promises, wherever the releases lie: publishers, and hosts that follow them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import CorruptArtifact, MissingArtifact, PublishedMeanwhile
from recsys.manifest import ReleaseManifest
from recsys.ports import ReleaseStore
from tests.worlds.release_stores import NUMBERS, Place, put, release, s3_server


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch) as options:
        yield options


@pytest.fixture(params=["workspace", "memory", "file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind."""
    if request.param == "s3":
        return Place(f"s3://releases/shop-{next(NUMBERS)}", tmp_path, request.getfixturevalue("s3_options"))
    urls = {"workspace": "", "memory": f"memory://shop-{next(NUMBERS)}", "file": f"file://{tmp_path}/shared"}
    return Place(urls[request.param], tmp_path)


def text_of(store: ReleaseStore, manifest: ReleaseManifest, name: str) -> str:
    return store.open(manifest, name).read_text()


def test_what_one_host_put_another_opens(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss", vectors="0.1", empty="")
    place.host("a").put(files, manifest)
    store = place.host("b")
    assert store.list() == [manifest.release_id]
    assert store.manifest(manifest.release_id) == manifest
    assert [text_of(store, manifest, name) for name in ("index", "vectors", "empty")] == ["faiss", "0.1", ""]
    assert (store.current(), store.previous(), store.last_known()) == (None, None, None)


def test_an_opened_file_can_be_mapped_and_not_be_written_to(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, vectors="0123456789")
    place.host("a").put(files, manifest)
    path = place.host("b").open(manifest, "vectors")
    assert path.stat().st_mode & 0o222 == 0
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[2:4] == b"23"


def test_putting_a_release_again_changes_nothing(place: Place, tmp_path: Path) -> None:
    store = place.host()
    first = put(store, tmp_path, index="1")
    second = put(store, tmp_path, index="2")
    assert put(place.host("b"), tmp_path, index="1") == first
    assert store.list() == [first, second]


def test_putting_a_release_again_mends_a_damaged_object(place: Place, tmp_path: Path) -> None:
    files, manifest = release(tmp_path, index="faiss")
    place.host("a").put(files, manifest)
    place.damage(manifest, "index")
    with pytest.raises(CorruptArtifact, match=r"index of release .* damaged .*recsys release build"):
        place.host("b").open(manifest, "index")
    place.host("a").put(files, manifest)
    assert text_of(place.host("b"), manifest, "index") == "faiss"


def test_a_file_that_changed_since_its_manifest_is_refused(place: Place, tmp_path: Path) -> None:
    store = place.host()
    files, manifest = release(tmp_path, index="faiss")
    files["index"].write_text("fbiss")
    with pytest.raises(CorruptArtifact, match=r"index .* is not what the manifest says"):
        store.put(files, manifest)
    with pytest.raises(CorruptArtifact, match="do not agree on: index"):
        store.put({}, manifest)
    with pytest.raises(CorruptArtifact, match="not the id of these files"):
        store.put(files, manifest.model_copy(update={"release_id": "0" * 64}))
    assert store.list() == []


def test_releases_are_listed_oldest_first(place: Place, tmp_path: Path) -> None:
    store = place.host()
    in_order = [put(store, tmp_path, index=str(number)) for number in range(6)]
    assert place.host("b").list() == in_order


@pytest.mark.parametrize("unknown", ["0" * 64, "", "..", "../releases", "current", "a/b"])
def test_an_unknown_release_is_not_published(place: Place, tmp_path: Path, unknown: str) -> None:
    store = place.host()
    known = put(store, tmp_path, index="faiss")
    store.publish(known)
    with pytest.raises(MissingArtifact, match="recsys release list"):
        store.publish(unknown)
    assert store.current() == known
    with pytest.raises(MissingArtifact, match="no file 'vectors'"):
        store.open(store.manifest(known), "vectors")


def test_previous_is_the_release_that_was_current_before(place: Place, tmp_path: Path) -> None:
    store, follower = place.host("a"), place.host("b")
    first, second, third = (put(store, tmp_path, index=text) for text in ("1", "2", "3"))
    moves = [(first, None), (second, first), (third, second), (second, third), (second, third)]
    for release_id, before in moves:
        store.publish(release_id)
        for each in (store, follower, place.host("c")):
            assert (each.current(), each.previous()) == (release_id, before)
            assert each.last_known() == release_id


def test_who_looked_at_another_release_than_the_current_one_does_not_publish(place: Place, tmp_path: Path) -> None:
    one, other = place.host("a"), place.host("b")
    first, second, third = (put(one, tmp_path, index=text) for text in ("1", "2", "3"))
    one.publish(first, expected="")
    other.publish(second, expected=first)
    with pytest.raises(PublishedMeanwhile, match=f"published release {second[:12]} meanwhile.*publish again"):
        one.publish(third, expected=first)
    with pytest.raises(PublishedMeanwhile):
        one.publish(third, expected="")
    assert one.current() == other.current() == second
    one.publish(second, expected=first)  # it is what both want
    one.publish(third, expected=second)
    assert (other.current(), other.previous()) == (third, second)


def test_many_publishers_at_once_lose_no_release_between_them(place: Place, tmp_path: Path) -> None:
    """Whoever was told that it published is in the chain of what replaced what; nobody was overwritten unseen."""
    hosts = [place.host(str(number)) for number in range(4)]
    ids = [put(host, tmp_path, index=str(number)) for number, host in enumerate(hosts)]

    def publish(number: int) -> bool:
        try:
            hosts[number].publish(ids[number], expected="")
        except PublishedMeanwhile:
            return False
        return True

    with ThreadPoolExecutor(len(hosts)) as pool:
        published = list(pool.map(publish, range(len(hosts))))
    assert published.count(True) == 1
    assert place.host("z").current() == ids[published.index(True)]
    assert place.host("z").previous() is None


def test_holding_a_release_keeps_it_readable(place: Place, tmp_path: Path) -> None:
    publisher, follower = place.host("a"), place.host("b", keep=1) if place.url else place.host("b")
    ids = [put(publisher, tmp_path, index=str(number), same="same") for number in range(4)]
    for release_id in ids:
        publisher.publish(release_id)
        assert follower.current() == release_id
        manifest = follower.manifest(release_id)
        paths = [follower.open(manifest, name) for name in manifest.files]
        follower.hold(release_id)
        assert all(path.exists() for path in paths)
