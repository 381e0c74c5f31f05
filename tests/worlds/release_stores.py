"""Places where releases can lie, and small releases to put there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from recsys.manifest import FileEntry, ReleaseManifest, release_id_of
from recsys.ports import ReleaseStore
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.remote_folder import RemoteFolder
from recsys.storage.remote_releases import RemoteReleaseStore

NUMBERS = count()


def ticking() -> Callable[[], datetime]:
    """A clock that is an hour later each time."""
    times = (datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in count())
    return lambda: next(times)


CLOCK = ticking()


class Place:
    """One place, as several hosts see it: each call of `host` is another machine with its own cache.

    Attributes:
        url: "" for a workspace folder, which all hosts then share.
    """

    def __init__(self, url: str, folder: Path, options: Mapping[str, Any] | None = None) -> None:
        self.url, self.folder, self.options = url, folder, dict(options or {})

    def host(self, name: str = "a", **more: Any) -> ReleaseStore:
        if not self.url:
            return LocalReleaseStore(self.folder / "workspace", clock=CLOCK)
        return self.remote(name, **more)

    def remote(self, name: str = "a", **more: Any) -> RemoteReleaseStore:
        return RemoteReleaseStore(self.url, self.cache_dir(name), options=self.options, clock=CLOCK, **more)

    def cache_dir(self, name: str = "a") -> Path:
        return self.folder / f"cache-{name}"

    def remote_folder(self) -> RemoteFolder:
        return RemoteFolder(self.url, self.options)

    def damage(self, manifest: ReleaseManifest, name: str) -> None:
        """Change a byte of an object where the releases lie, not its length."""
        sha256 = manifest.files[name].sha256
        if self.url:
            folder, path = self.remote_folder(), f"objects/{sha256[:2]}/{sha256}"
            data = folder.read(path)
            assert data
            folder.write(path, data[:-1] + bytes([data[-1] ^ 1]))
            return
        file = self.folder / "workspace" / "artifacts" / "objects" / sha256[:2] / sha256
        file.chmod(0o644)
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def release(folder: Path, **texts: str) -> tuple[dict[str, Path], ReleaseManifest]:
    """A release of small text files, made in `folder/build`."""
    build = folder / "build"
    build.mkdir(exist_ok=True)
    files = {name: build / f"{name}-{text[:40]}" for name, text in texts.items()}
    for name, path in files.items():
        path.write_text(texts[name])
    entries = {name: FileEntry.of(path) for name, path in files.items()}
    manifest = ReleaseManifest(
        release_id=release_id_of(entries), files=entries, spaces={}, n_items=1, dim=2, acceptance={"recall": 1.0}
    )
    return files, manifest


def put(store: ReleaseStore, folder: Path, **texts: str) -> str:
    files, manifest = release(folder, **texts)
    store.put(files, manifest)
    return manifest.release_id


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Storage options of a server on loopback that speaks S3, with a bucket `releases`; keys in the environment."""
    pytest.importorskip("s3fs")
    import fsspec

    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "for-this-test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    _one_write_at_a_time(monkeypatch)
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"endpoint_url": f"http://{host}:{port}"}
        fsspec.filesystem("s3", **options, use_listings_cache=False).makedirs("releases", exist_ok=True)
        yield options
    finally:
        server.stop()


def _one_write_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 checks a condition and writes in one step; this server does one after the other, in many threads."""
    responses, turn = pytest.importorskip("moto.s3.responses"), Lock()
    real = responses.S3Response.put_object

    def put_object(response: Any) -> Any:
        with turn:
            return real(response)

    monkeypatch.setattr(responses.S3Response, "put_object", put_object)
