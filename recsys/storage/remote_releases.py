"""Releases in object storage or on a shared disk, for hosts that follow one pointer.

objects/<sha256[:2]>/<sha256>          the bytes, each uploaded once, shared by the releases that have them in common
releases/<release_id>/put-<time>       when it was put, in UTC: the order of the list
releases/<release_id>/manifest.json    written last: without it there is no release
pointers/                              `recsys.storage.pointer_chain`

Reading goes through a cache folder of the machine (`recsys.storage.release_cache`), whose files can be mapped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.manifest import FileEntry, ReleaseManifest, release_id_of
from recsys.storage.pointer_chain import PointerChain, PointerRecord
from recsys.storage.release_cache import ReleaseCache
from recsys.storage.release_files import (
    MEND,
    RELEASE_ID,
    holds,
    published_meanwhile,
    require_agreement,
    utc_now,
)
from recsys.storage.remote_folder import RemoteFolder
from recsys.storage.transfers import OnTransfer, Transfer

AT_ONCE = 4
_SAY_EVERY_S = 5.0
_TIME = "put-%Y%m%dT%H%M%S.%fZ"


class RemoteReleaseStore:
    """Implements `recsys.ports.ReleaseStore`. Any number of hosts may read and publish at once.

    Every method that needs the storage raises StoreUnavailable when it does not answer, and EnvironmentProblem or
    ConfigError when it cannot be opened. `manifest` and `open` do not need it for what was pulled before.
    """

    def __init__(
        self,
        url: str,
        cache_dir: Path,
        *,
        options: Mapping[str, Any] | None = None,
        keep: int = 3,
        timeout_s: float = 10.0,
        clock: Callable[[], datetime] = utc_now,
        on_transfer: OnTransfer = lambda transfer: None,
    ) -> None:
        """
        Args:
            url: such as `s3://bucket/releases`.
            cache_dir: of this machine; many processes may share it.
            options: what fsspec opens the file system with; no secrets.
            keep: releases whose copies stay in the cache besides those needed.
            timeout_s: of one question; not of an upload or a pull.
            clock: the time to write into the records.
            on_transfer: told of every file when it is there, and every few seconds on its way; called from threads.
        """
        self._folder = RemoteFolder(url, options, timeout_s=timeout_s)
        self._cache = ReleaseCache(cache_dir, keep=keep)
        self._pointers = PointerChain(self._folder, clock)
        self._clock, self._on_transfer = clock, on_transfer

    def put(self, files: Mapping[str, Path], manifest: ReleaseManifest) -> None:
        """Upload what is not there yet, and the manifest last. Putting a release again mends its damaged objects.

        Raises:
            CorruptArtifact: a file is not what the manifest says, or the release's id is not that of its files.
        """
        require_agreement(files, manifest)
        for name, entry in manifest.files.items():
            if not holds(files[name], entry):
                raise CorruptArtifact(f"{name} ({files[name]}) is not what the manifest says; build the release again")
        text = manifest.model_dump_json(indent=2).encode() + b"\n"
        there = self._folder.read(_manifest_name(manifest.release_id))
        # An object of that size is taken to be that content, unless somebody builds the same release again: perhaps
        # because it is damaged.
        by_content = {entry.sha256: (name, entry) for name, entry in manifest.files.items()}
        _in_parallel(
            lambda each: self._upload(manifest.release_id, each[0], files[each[0]], each[1], verify=there is not None),
            by_content.values(),
        )
        if there is None:
            moment = self._clock().astimezone(UTC).strftime(_TIME)
            self._folder.create(f"releases/{manifest.release_id}/{moment}", b"")
        if there != text:
            self._folder.write(_manifest_name(manifest.release_id), text)

    def manifest(self, release_id: str) -> ReleaseManifest:
        """Raises MissingArtifact, or CorruptArtifact when it cannot be read or is another release's."""
        cached = self._cache.manifest(release_id) if RELEASE_ID.fullmatch(release_id) else None
        if cached is not None:
            return cached
        manifest = self._remote_manifest(release_id)
        self._cache.keep_manifest(manifest)
        return manifest

    def open(self, manifest: ReleaseManifest, name: str, *, verify: bool = True) -> Path:
        """Path of one file on this machine, its checksum verified; it has no extension and must not be written to.

        It is pulled when it is not here, or damaged here.

        Raises:
            MissingArtifact: the release has no such file, or its bytes are gone.
            CorruptArtifact: its bytes in the storage differ from the manifest; the message names the file.
        """
        entry = manifest.files.get(name)
        if entry is None:
            raise MissingArtifact(f"release {manifest.release_id[:12]} has no file {name!r}; build it again")
        if (path := self._cache.object(entry, verify=verify)) is not None:
            return path
        try:
            return self._cache.pulled(entry, lambda target: self._pull(manifest.release_id, name, entry, target))
        except CorruptArtifact:
            raise CorruptArtifact(
                f"{name} of release {manifest.release_id[:12]} is damaged ({self._url_of(entry)}); {MEND}"
            ) from None

    def list(self) -> list[str]:
        """Release ids, oldest first."""
        there: set[str] = set()
        moments: dict[str, str] = {}
        for path in self._folder.below("releases"):
            release_id, _, name = path.partition("/")
            if name == "manifest.json":
                there.add(release_id)
            elif name.startswith("put-"):
                moments[release_id] = min(name, moments.get(release_id, name))
        return sorted(there, key=lambda release_id: (moments.get(release_id, ""), release_id))

    def current(self) -> str | None:
        """The published release. Raises CorruptArtifact when its record is damaged; publishing mends it."""
        latest = self._pointers.latest()
        if latest is None:
            return None
        release_id = latest.record().release_id
        self._cache.remember(latest)
        return release_id

    def last_known(self) -> str | None:
        """The release that was current when a process of this machine last could ask."""
        known = self._known()
        return None if known is None else known.release_id

    def previous(self) -> str | None:
        """The release that was current before this one; publishing it is the rollback."""
        latest = self._pointers.latest()
        return None if latest is None else latest.record().replaced

    def publish(self, release_id: str, *, expected: str | None = None) -> None:
        """Move the pointer: one atomic step. Publishing the current release changes nothing.

        Args:
            expected: the release that was current when the caller looked ("" = none); None where it did not look.

        Raises:
            MissingArtifact: there is no such release, or a file of it is gone or of another size; the pointer stays.
            PublishedMeanwhile: another than `expected` is current, or became so while this ran; the pointer is theirs.
            EnvironmentProblem: the storage cannot tell two who publish at once apart.
        """
        self._require_whole(self._remote_manifest(release_id))
        latest = self._pointers.listed()
        current = self._current_of_listed()
        if current == release_id:
            return
        if expected is not None and current and current != expected:
            raise published_meanwhile(release_id, current)
        if self._pointers.follow(latest, release_id, current):
            return
        self._pointers.listed()
        current = self._current_of_listed()
        if current != release_id:
            raise published_meanwhile(release_id, current or "that cannot be read")

    def hold(self, release_id: str) -> None:
        """Keep that release on this machine while this process lives or until it holds another; then remove copies
        that nobody needs."""
        self._cache.hold(release_id)
        known = self._known()
        self._cache.sweep({release_id} if known is None else {release_id, known.release_id, known.replaced or ""})

    def _known(self) -> PointerRecord | None:
        """The pointer as this machine knows it, without asking."""
        link = self._cache.remembered()
        try:
            return None if link is None else link.record()
        except CorruptArtifact:
            return None

    def _current_of_listed(self) -> str | None:
        """None where there is none, or its record is damaged: publishing is how that is mended."""
        latest = self._pointers.latest()
        try:
            return None if latest is None else latest.record().release_id
        except CorruptArtifact:
            return None

    def _remote_manifest(self, release_id: str) -> ReleaseManifest:
        data = self._folder.read(_manifest_name(release_id)) if RELEASE_ID.fullmatch(release_id) else None
        if data is None:
            known = ", ".join(name[:12] for name in self.list()) or "none"
            raise MissingArtifact(
                f"there is no release {release_id!r} in {self._folder.url} (there: {known}); "
                "run `recsys release build`, or choose one of `recsys release list`"
            )
        where = f"{self._folder.url}/{_manifest_name(release_id)}"
        try:
            manifest = ReleaseManifest.model_validate_json(data)
        except ValidationError as error:
            raise CorruptArtifact(f"{where} is no manifest ({error}); run `recsys release build` again") from None
        if not release_id == manifest.release_id == release_id_of(manifest.files):
            raise CorruptArtifact(f"{where} is another release's manifest; run `recsys release build` again")
        return manifest

    def _require_whole(self, manifest: ReleaseManifest) -> None:
        def require(each: tuple[str, FileEntry]) -> None:
            name, entry = each
            if self._folder.size(_object_name(entry)) != entry.size_bytes:
                raise MissingArtifact(
                    f"{name} of release {manifest.release_id[:12]} is gone or not whole ({self._url_of(entry)}); {MEND}"
                )

        _in_parallel(require, manifest.files.items())

    def _upload(self, release_id: str, name: str, source: Path, entry: FileEntry, *, verify: bool) -> None:
        path, started_at = _object_name(entry), time.monotonic()
        if self._folder.size(path) == entry.size_bytes and (
            not verify or self._folder.sha256(path, entry.size_bytes) == entry.sha256
        ):
            return
        self._folder.upload(source, path)
        if self._folder.size(path) != entry.size_bytes:
            raise CorruptArtifact(f"{name} did not arrive whole ({self._url_of(entry)}); put the release again")
        seconds = time.monotonic() - started_at
        self._on_transfer(Transfer("upload", release_id, name, entry.size_bytes, entry.size_bytes, seconds))

    def _pull(self, release_id: str, name: str, entry: FileEntry, target: Path) -> None:
        started_at = said_at = time.monotonic()

        def say(done_bytes: int) -> None:
            nonlocal said_at
            now = time.monotonic()
            if done_bytes == entry.size_bytes or now - said_at >= _SAY_EVERY_S:
                said_at = now
                self._on_transfer(Transfer("pull", release_id, name, done_bytes, entry.size_bytes, now - started_at))

        def on_its_way(done_bytes: int) -> None:
            if done_bytes < entry.size_bytes:
                say(done_bytes)

        if not self._folder.download(_object_name(entry), target, on_its_way):
            raise MissingArtifact(f"{name} of release {release_id[:12]} is gone ({self._url_of(entry)}); {MEND}")
        say(entry.size_bytes)

    def _url_of(self, entry: FileEntry) -> str:
        return f"{self._folder.url}/{_object_name(entry)}"


def _manifest_name(release_id: str) -> str:
    return f"releases/{release_id}/manifest.json"


def _object_name(entry: FileEntry) -> str:
    return f"objects/{entry.sha256[:2]}/{entry.sha256}"


def _in_parallel(step: Callable[[Any], None], values: Iterable[Any]) -> None:
    """A handful at a time; the first error, once those under way have ended."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(step, list(values)):
            pass
