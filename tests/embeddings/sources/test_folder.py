"""Files below a root, and nothing else."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from embeddings.refused import Refused
from embeddings.sources.folder import FolderReader


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A catalogue's folder with pictures, beside it more pictures and a secret."""
    for path, content in (
        ("shop/a.jpg", b"a"),
        ("shop/in/b.jpg", b"b"),
        ("pictures/c.jpg", b"c"),
        ("pictures2/d.jpg", b"d"),
        ("secret", b"secret"),
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path / "shop"


def reader_of(shop: Path, *roots: Path, max_bytes: int = 1_000_000) -> FolderReader:
    return FolderReader(shop, roots or (shop,), max_bytes=max_bytes)


def reason(reader: FolderReader, reference: str) -> str:
    with pytest.raises(Refused) as caught:
        reader.read(reference)
    return caught.value.reason


def test_files_are_read_relative_to_the_catalogue(shop: Path) -> None:
    reader = reader_of(shop)
    assert reader.read("a.jpg") == b"a"
    assert reader.read("in/../in/b.jpg") == b"b"


def test_a_second_root_may_lie_beside_it(shop: Path) -> None:
    reader = reader_of(shop, shop, shop / "../pictures")
    assert (reader.read("../pictures/c.jpg"), reader.read("a.jpg")) == (b"c", b"a")
    assert reason(reader, "../pictures2/d.jpg") == "outside_root"
    assert reason(reader, "../secret") == "outside_root"


@pytest.mark.parametrize("reference", ["../secret", "/etc/passwd", "in/../../secret", "/proc/self/environ", "."])
def test_nothing_outside_is_read(shop: Path, reference: str) -> None:
    assert reason(reader_of(shop), reference) == "outside_root"


def test_a_link_counts_as_what_it_leads_to(shop: Path) -> None:
    (shop / "inside").symlink_to("in/b.jpg")
    (shop / "outside").symlink_to("../secret")
    (shop / "folder").symlink_to("..")
    (shop / "twice").symlink_to("folder/secret")
    (shop / "loop").symlink_to("loop")
    reader = reader_of(shop)
    assert reader.read("inside") == b"b"
    assert {reason(reader, name) for name in ("outside", "folder/secret", "twice")} == {"outside_root"}
    assert reason(reader, "loop") == "not_readable"


def test_the_root_itself_may_be_a_link(shop: Path) -> None:
    (shop.parent / "link").symlink_to(shop)
    assert reader_of(shop.parent / "link").read("a.jpg") == b"a"


def test_what_is_not_a_regular_file_is_refused_without_waiting(shop: Path) -> None:
    os.mkfifo(shop / "pipe")
    (shop / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(shop / "socket"))
        reader = reader_of(shop, shop, Path("/dev"))
        assert [reason(reader, name) for name in ("pipe", "in", "zero", "socket")] == ["not_readable"] * 4
        assert [reader.stamp(name) for name in ("pipe", "in", "zero", "socket")] == [None] * 4


def test_a_file_of_exactly_the_cap_is_read_and_one_byte_more_is_not(shop: Path) -> None:
    (shop / "cap").write_bytes(b"x" * 5_000_000)
    (shop / "more").write_bytes(b"x" * 5_000_001)
    reader = reader_of(shop, max_bytes=5_000_000)
    assert len(reader.read("cap")) == 5_000_000
    assert reason(reader, "more") == "too_large"


@pytest.mark.parametrize("reference", ["absent.jpg", "a.jpg/b", "x" * 300, "a\x00b", "\udcff"])
def test_what_is_not_there_is_not_found_and_has_no_stamp(shop: Path, reference: str) -> None:
    assert reason(reader_of(shop), reference) == "not_found"
    assert reader_of(shop).stamp(reference) is None


def test_what_may_not_be_read_is_said_to_be_so(shop: Path) -> None:
    (shop / "a.jpg").chmod(0)
    if os.access(shop / "a.jpg", os.R_OK):
        pytest.skip("root may read everything")
    assert reason(reader_of(shop), "a.jpg") == "not_permitted"


def test_the_stamp_changes_with_size_and_time(shop: Path) -> None:
    reader, path = reader_of(shop), shop / "a.jpg"
    first = reader.stamp("a.jpg")
    assert first is not None
    assert reader_of(shop).stamp("a.jpg") == first
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert reader.stamp("a.jpg") != first


def test_a_name_that_is_swapped_all_the_time_never_gives_the_secret(shop: Path) -> None:
    """A folder that is now real and now a link outwards: every read is the picture or a refusal."""
    (shop / "real").mkdir()
    (shop / "real" / "secret").write_bytes(b"picture")
    (shop / "evil").symlink_to("..")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for name in ("real", "evil"):
                os.symlink(name, shop / "next")
                os.replace(shop / "next", shop / "now")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    reader = reader_of(shop)
    n_reads = 0
    while n_reads < 2000 or not {b"picture", b"outside_root"} <= seen:
        n_reads += 1
        try:
            seen.add(reader.read("now/secret"))
        except Refused as refused:
            seen.add(refused.reason.encode())
    done.set()
    swapping.join()
    assert b"secret" not in seen
