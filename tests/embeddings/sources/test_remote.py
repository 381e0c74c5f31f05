"""Object stores through fsspec: in memory, and S3's own protocol against a server on loopback."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from embeddings.refused import Refused
from embeddings.sources.remote import RemoteReader, open_file_system
from recsys.errors import ConfigError, EnvironmentProblem

fsspec = pytest.importorskip("fsspec")


def reason(reader: RemoteReader, reference: str) -> str:
    with pytest.raises(Refused) as caught:
        reader.read(reference)
    return caught.value.reason


@pytest.fixture
def root() -> Iterator[str]:
    """A folder in memory with a picture, beside it a secret."""
    memory, name = fsspec.filesystem("memory"), f"/{uuid4().hex}"
    memory.pipe({f"{name}/shop/a.jpg": b"a", f"{name}/shop/in/b.jpg": b"b", f"{name}/secret": b"secret"})
    yield f"memory:/{name}/shop"
    memory.rm(name, recursive=True)


def test_paths_and_urls_below_the_root_are_read(root: str) -> None:
    reader = RemoteReader(root, {}, max_bytes=1000)
    assert reader.read("a.jpg") == b"a"
    assert reader.read("in/b.jpg") == b"b"
    assert reader.read(f"{root}/in/b.jpg") == b"b"


@pytest.mark.parametrize("reference", ["../secret", "in/../../secret", "/secret", "memory://secret", "s3://a/b"])
def test_nothing_outside_the_root_is_read(root: str, reference: str) -> None:
    reader = RemoteReader(root, {}, max_bytes=1000)
    assert reason(reader, reference) == "outside_root"
    assert reason(reader, root.removesuffix("/shop") + "/secret") == "outside_root"
    assert reader.stamp(reference) is None


def test_what_is_not_there_is_not_found(root: str) -> None:
    reader = RemoteReader(root, {}, max_bytes=1000)
    assert reason(reader, "absent.jpg") == "not_found"
    assert reader.stamp("absent.jpg") is None


def test_the_cap_holds(root: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({root.removeprefix("memory:/") + f"/{n}": b"x" * n for n in (0, 1000, 1001)})
    reader = RemoteReader(root, {}, max_bytes=1000)
    assert [len(reader.read(name)) for name in ("0", "1000")] == [0, 1000]
    assert reason(reader, "1001") == "too_large"


def test_a_folder_that_had_to_be_forgotten_is_not_listed_again(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, start = fsspec.filesystem("memory"), root.removeprefix("memory:/")
    memory.pipe({f"{start}/{folder}/{n}": b"x" for folder in "pq" for n in range(6)})
    listed: list[str] = []
    real = type(memory).ls

    def noted(self: Any, path: str, *rest: Any, **more: Any) -> Any:
        listed.append(path[-1])
        return real(self, path, *rest, **more)

    monkeypatch.setattr(type(memory), "ls", noted)
    monkeypatch.setattr("embeddings.sources.remote._STAMPS_KEPT", 8)
    reader = RemoteReader(root, {}, max_bytes=1000)
    references = [f"{folder}/{n}" for n in range(6) for folder in "pq"]
    stamps = {reference: reader.stamp(reference) for reference in references}
    assert None not in stamps.values()
    assert listed == ["p", "q"]
    assert {reference: reader.stamp(reference) for reference in references} == stamps
    assert listed == ["p", "q"]


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")])
def test_a_missing_library_says_what_to_install(scheme: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == package:
            raise ImportError(f"No module named {name!r}")
        return real(name, *rest, **more)

    def gone(name: str) -> Any:
        raise ImportError(f"Install {package}")

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("fsspec.get_filesystem_class", gone)
    with pytest.raises(EnvironmentProblem, match=f"pip install {package}"):
        open_file_system(scheme, {})


def test_an_unknown_kind_of_storage_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        open_file_system("nowhere", {})


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[str, dict[str, Any]]]:
    """(root, storage options) of a bucket on a server that speaks S3."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "key", "secret": "secret"}
    bucket = fsspec.filesystem("s3", **options, use_listings_cache=False)
    bucket.mkdir("bucket")
    for n in range(12):
        bucket.pipe_file(f"bucket/shop/{n}.jpg", b"x" * n)
    bucket.pipe_file("bucket/secret", b"secret")
    bucket.pipe_file("bucket/shop/odd name+%20é.jpg", b"odd")
    yield "s3://bucket/shop", options
    server.stop()


def test_pictures_are_read_from_s3(s3: tuple[str, dict[str, Any]]) -> None:
    root, options = s3
    reader = RemoteReader(root, options, max_bytes=10)
    assert [len(reader.read(f"{n}.jpg")) for n in range(11)] == list(range(11))
    assert reader.read("odd name+%20é.jpg") == b"odd"
    assert reader.read("s3://bucket/shop/3.jpg") == b"xxx"
    assert reason(reader, "11.jpg") == "too_large"
    assert reason(reader, "absent.jpg") == "not_found"
    assert reason(reader, "../secret") == "outside_root"
    assert reason(reader, "s3://bucket/secret") == "outside_root"


def test_a_bucket_that_is_not_there_or_does_not_answer_is_no_content(s3: tuple[str, dict[str, Any]]) -> None:
    _, options = s3
    assert reason(RemoteReader("s3://nobody", options, max_bytes=10), "a.jpg") == "not_found"
    dead = {**options, "endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    assert reason(RemoteReader("s3://bucket", dead, max_bytes=10), "a.jpg") == "no_connection"


def test_stamps_of_s3_come_from_one_listing_and_change_with_the_content(
    s3: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    root, options = s3
    reader, names = RemoteReader(root, options, max_bytes=10), [f"{n}.jpg" for n in range(12)]
    with caplog.at_level("INFO", logger="werkzeug"):
        stamps = [reader.stamp(name) for name in names]
    assert len(set(stamps)) == 12
    assert None not in stamps
    asked = [line.split('"')[1].split("?")[0] for line in caplog.messages]  # as the server logs them
    assert asked == [*(f"HEAD /bucket/shop/{n}.jpg HTTP/1.1" for n in range(3)), "GET /bucket"]
    backwards = RemoteReader(root, options, max_bytes=10)  # others are asked for one by one
    assert [backwards.stamp(name) for name in names[::-1]] == stamps[::-1]
    bucket = fsspec.filesystem("s3", **options, use_listings_cache=False)
    bucket.pipe_file("bucket/shop/5.jpg", b"other")
    again = RemoteReader(root, options, max_bytes=10)
    assert [again.stamp(name) == before for name, before in zip(names, stamps, strict=True)] == [
        n != 5 for n in range(12)
    ]
    bucket.pipe_file("bucket/shop/5.jpg", b"xxxxx")
