from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.manifest import FileEntry, ReleaseManifest, release_id_of
from recsys.storage.release_files import LocalReleaseStore
from tests.recsys.storage.kills import killed_at_every_step


def ticking() -> Iterator[datetime]:
    return (datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in count())


def store_in(root: Path) -> LocalReleaseStore:
    times = ticking()
    return LocalReleaseStore(root, clock=lambda: next(times))


def release(root: Path, **texts: str) -> tuple[dict[str, Path], ReleaseManifest]:
    """A release of small text files, made in `root/build`."""
    build = root / "build"
    build.mkdir(exist_ok=True)
    files = {name: build / f"{name}-{text}" for name, text in texts.items()}
    for name, path in files.items():
        path.write_text(texts[name])
    entries = {name: FileEntry.of(path) for name, path in files.items()}
    manifest = ReleaseManifest(
        release_id=release_id_of(entries), files=entries, spaces={}, n_items=1, dim=2, acceptance={"recall": 1.0}
    )
    return files, manifest


def put(store: LocalReleaseStore, root: Path, **texts: str) -> str:
    files, manifest = release(root, **texts)
    store.put(files, manifest)
    return manifest.release_id


def test_what_was_put_can_be_opened(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    files, manifest = release(tmp_path, index="faiss", vectors="0.1")
    store.put(files, manifest)
    assert store.list() == [manifest.release_id]
    assert store.manifest(manifest.release_id) == manifest
    assert store.open(manifest, "index").read_text() == "faiss"
    assert store.current() is None


def test_releases_share_the_bytes_they_have_in_common(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    put(store, tmp_path, index="one", tower="same")
    put(store, tmp_path, index="two", tower="same")
    objects = [path for path in (tmp_path / "artifacts" / "objects").rglob("*") if path.is_file()]
    assert sorted(path.read_text() for path in objects) == ["one", "same", "two"]


def test_putting_a_release_again_changes_nothing_but_mends_a_damaged_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    files, manifest = release(tmp_path, index="faiss")
    store.put(files, manifest)
    path = store.open(manifest, "index")
    path.chmod(0o644)
    path.write_text("fbiss")
    with pytest.raises(CorruptArtifact, match=r"index of release .* damaged .*recsys release build"):
        store.open(manifest, "index")
    assert store.open(manifest, "index", verify=False) == path
    store.put(files, manifest)
    assert store.open(manifest, "index").read_text() == "faiss"
    assert store.list() == [manifest.release_id]


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    files, manifest = release(tmp_path, index="faiss")
    store.put(files, manifest)
    with pytest.raises(MissingArtifact, match="no file 'vectors'"):
        store.open(manifest, "vectors")
    store.open(manifest, "index").unlink()
    with pytest.raises(MissingArtifact, match=r"index of release .* is gone"):
        store.open(manifest, "index", verify=False)
    with pytest.raises(MissingArtifact, match="is gone"):
        store.publish(manifest.release_id)


def test_a_file_that_changed_since_its_manifest_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    files, manifest = release(tmp_path, index="faiss")
    files["index"].write_text("fbiss")
    with pytest.raises(CorruptArtifact, match=r"index .* is not what the manifest says"):
        store.put(files, manifest)
    assert store.list() == []
    with pytest.raises(CorruptArtifact, match="do not agree on: index"):
        store.put({}, manifest)
    with pytest.raises(CorruptArtifact, match="not the id of these files"):
        store.put(files, manifest.model_copy(update={"release_id": "0" * 64}))


@pytest.mark.parametrize("unknown", ["0" * 64, "", "..", "../releases", "current"])
def test_an_unknown_release_is_not_published(tmp_path: Path, unknown: str) -> None:
    store = store_in(tmp_path)
    known = put(store, tmp_path, index="faiss")
    store.publish(known)
    with pytest.raises(MissingArtifact, match="recsys release list"):
        store.publish(unknown)
    assert store.current() == known


def test_previous_is_the_release_that_was_current_before(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    first, second, third = (put(store, tmp_path, index=text) for text in ("1", "2", "3"))
    assert store.previous() is None
    store.publish(first)
    assert (store.current(), store.previous()) == (first, None)
    store.publish(third)
    store.publish(third)
    assert (store.current(), store.previous()) == (third, first)
    store.publish(first)  # the rollback
    assert (store.current(), store.previous()) == (first, third)
    store.publish(second)
    assert LocalReleaseStore(tmp_path).previous() == first


def test_releases_are_listed_oldest_first(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    ids = [put(store, tmp_path, index=f"{number}") for number in range(6)]
    assert ids != sorted(ids)
    assert store.list() == ids
    put(store, tmp_path, index="0")
    assert store.list() == ids


def test_the_same_files_give_the_same_manifest_whenever_they_are_put(tmp_path: Path) -> None:
    manifests = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        store = LocalReleaseStore(tmp_path / name)
        release_id = put(store, tmp_path / name, index="faiss")
        store.publish(release_id)
        manifests.append((tmp_path / name / "releases" / release_id / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]


def test_a_kill_while_putting_leaves_a_whole_release_or_none_and_the_next_put_completes_it(tmp_path: Path) -> None:
    n_without = 0
    for root in killed_at_every_step(
        tmp_path,
        prepare=lambda root: None,
        work=lambda root: put(store_in(root), root, index="faiss", tower="onnx"),
    ):
        store = store_in(root)
        for release_id in store.list():
            manifest = store.manifest(release_id)
            assert [store.open(manifest, name).read_text() for name in ("index", "tower")] == ["faiss", "onnx"]
        n_without += not store.list()
        put(store, root, index="faiss", tower="onnx")
        assert len(store.list()) == 1
        assert not list(root.rglob(".tmp-*"))
    assert n_without > 5


def test_a_kill_while_publishing_leaves_the_old_release_or_the_new_and_the_right_way_back(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        store = store_in(root)
        for text in ("1", "2", "3"):
            put(store, root, index=text)
        store.publish(store.list()[0])
        store.publish(store.list()[1])

    seen = set()
    for root in killed_at_every_step(tmp_path, prepare, lambda root: store_in(root).publish(store_in(root).list()[2])):
        store = store_in(root)
        first, second, third = store.list()
        seen.add((store.current(), store.previous()))
        assert (store.current(), store.previous()) in {(second, first), (third, second)}
    assert len(seen) == 2


def test_a_manifest_in_the_folder_of_another_release_is_refused(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    mine = put(store, tmp_path, index="faiss")
    other = "b" * 64
    shutil.copytree(tmp_path / "releases" / mine, tmp_path / "releases" / other)
    with pytest.raises(CorruptArtifact, match="another release"):
        store.manifest(other)


@pytest.mark.parametrize("pointer", [b"\xff\xfe\x00", b"../../etc", b"x" * 5_000_000, b"\x00", b"a\nb"])
def test_a_damaged_pointer_is_said_in_few_words_and_publishing_mends_it(tmp_path: Path, pointer: bytes) -> None:
    store = store_in(tmp_path)
    mine = put(store, tmp_path, index="faiss")
    (tmp_path / "releases" / "current").write_bytes(pointer)
    with pytest.raises(CorruptArtifact, match="current names no release") as raised:
        store.current()
    assert len(str(raised.value)) < 1000
    store.publish(mine)
    assert store.current() == mine
    assert store.previous() is None


def test_a_pointer_that_is_no_file_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "releases" / "current").mkdir(parents=True)
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        store_in(tmp_path).current()
