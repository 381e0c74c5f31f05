"""Releases in a workspace folder.

artifacts/objects/<sha256[:2]>/<sha256>   the bytes, each once, shared by the releases that have them in common
releases/<release_id>/manifest.json       written last: without it there is no release
releases/current                          the id of the published release: one line, replaced in one durable step
releases/history.jsonl                    what was put and published when (a manifest holds no times)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recsys.errors import CorruptArtifact, MissingArtifact, PublishedMeanwhile
from recsys.manifest import FileEntry, ReleaseManifest, release_id_of, sha256_file
from recsys.storage.atomic import (
    append_durably,
    fsync_folder,
    locked_folder,
    place_file,
    remove_leftovers,
    write_atomic,
)

_MANIFEST = "manifest.json"
RELEASE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")
_MAX_POINTER_BYTES = 256
MEND = "run `recsys release build` again, which puts it back"
_MEND_POINTER = "write the id of a release into it: the name of one of the folders beside it"


def utc_now() -> datetime:
    return datetime.now(UTC)


class LocalReleaseStore:
    """Implements `recsys.ports.ReleaseStore`. Writers take turns, across processes; readers never wait."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        """
        Args:
            root: the workspace folder.
            clock: the time to write into the history.
        """
        self._objects, self._releases, self._clock = root / "artifacts" / "objects", root / "releases", clock

    def put(self, files: Mapping[str, Path], manifest: ReleaseManifest) -> None:
        """Copy files in (those already there by content are shared) and write the manifest last.

        Raises:
            CorruptArtifact: a file is not what the manifest says, or the release's id is not that of its files.
        """
        require_agreement(files, manifest)
        self._objects.mkdir(parents=True, exist_ok=True)
        self._releases.mkdir(parents=True, exist_ok=True)
        with locked_folder(self._releases):
            remove_leftovers(self._releases)
            for name, entry in manifest.files.items():
                self._put_object(name, files[name], entry)
            self._record("put", manifest.release_id)
            folder = self._releases / manifest.release_id
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
            write_atomic(folder / _MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
            fsync_folder(self._releases)

    def manifest(self, release_id: str) -> ReleaseManifest:
        """Raises MissingArtifact, or CorruptArtifact when it cannot be read or is another release's."""
        path = self._releases / release_id / _MANIFEST
        try:
            if not RELEASE_ID.fullmatch(release_id):
                raise FileNotFoundError
            manifest = ReleaseManifest.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            known = ", ".join(name[:12] for name in self.list()) or "none"
            raise MissingArtifact(
                f"there is no release {release_id!r} in {self._releases} (there: {known}); "
                "run `recsys release build`, or choose one of `recsys release list`"
            ) from None
        except ValidationError as error:
            raise CorruptArtifact(f"{path} is no manifest ({error}); run `recsys release build` again") from None
        if not release_id == manifest.release_id == release_id_of(manifest.files):
            raise CorruptArtifact(f"{path} is another release's manifest; run `recsys release build` again")
        return manifest

    def open(self, manifest: ReleaseManifest, name: str, *, verify: bool = True) -> Path:
        """Path of one file, its checksum verified; it has no extension and must not be written to.

        Raises:
            MissingArtifact: the release has no such file, or its bytes are gone.
            CorruptArtifact: its bytes differ from the manifest; the message names the file.
        """
        entry = manifest.files.get(name)
        if entry is None:
            raise MissingArtifact(f"release {manifest.release_id[:12]} has no file {name!r}; build it again")
        path = self._object(entry)
        if not path.is_file():
            raise MissingArtifact(f"{name} of release {manifest.release_id[:12]} is gone ({path}); {MEND}")
        if verify and not holds(path, entry):
            raise CorruptArtifact(f"{name} of release {manifest.release_id[:12]} is damaged ({path}); {MEND}")
        return path

    def list(self) -> list[str]:
        """Release ids, oldest first."""
        there = {path.parent.name for path in self._releases.glob(f"*/{_MANIFEST}")}
        in_order = dict.fromkeys(record["release_id"] for record in self._history() if record["did"] == "put")
        carried_in = sorted(there - in_order.keys())  # by hand, from another workspace
        return carried_in + [release_id for release_id in in_order if release_id in there]

    def current(self) -> str | None:
        """The published release. Raises CorruptArtifact when the pointer is damaged; publishing mends it."""
        path = self._releases / "current"
        try:
            with path.open("rb") as stream:
                name = stream.read(_MAX_POINTER_BYTES).decode("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptArtifact(f"{path} cannot be read ({error}); {_MEND_POINTER}") from None
        if name and not RELEASE_ID.fullmatch(name):
            raise CorruptArtifact(f"{path} names no release; {_MEND_POINTER}")
        return name or None

    def previous(self) -> str | None:
        """The release that was current before this one; publishing it is the rollback."""
        current = self.current()
        for record in reversed(self._history()):
            # A record of a release that is not current tells of a publish that was killed before the pointer moved.
            if record["did"] == "publish" and record["release_id"] == current:
                replaced: str | None = record["replaced"]
                return replaced
        return None

    def last_known(self) -> str | None:
        """The published release; None where the pointer is damaged."""
        return self._replaced()

    def hold(self, release_id: str) -> None:
        """Nothing to do: these are no copies."""

    def publish(self, release_id: str, *, expected: str | None = None) -> None:
        """Move the pointer: one atomic, durable step. Publishing the current release changes nothing.

        Args:
            expected: the release that was current when the caller looked ("" = none); None where it did not look.

        Raises:
            MissingArtifact: there is no such release, or one of its files is gone; the pointer stays.
            PublishedMeanwhile: another release than `expected` is current; it stays so.
        """
        manifest = self.manifest(release_id)
        for name in manifest.files:
            self.open(manifest, name, verify=False)
        with locked_folder(self._releases):
            current = self._replaced()
            if current == release_id:
                return
            if expected is not None and current and current != expected:
                raise published_meanwhile(release_id, current)
            self._record("publish", release_id, replaced=current)
            write_atomic(self._releases / "current", f"{release_id}\n".encode())

    def _replaced(self) -> str | None:
        try:
            return self.current()
        except CorruptArtifact:  # what it named is lost; publishing is how it is mended
            return None

    def _object(self, entry: FileEntry) -> Path:
        return self._objects / entry.sha256[:2] / entry.sha256

    def _put_object(self, name: str, source: Path, entry: FileEntry) -> None:
        path = self._object(entry)
        path.parent.mkdir(exist_ok=True)
        remove_leftovers(path.parent)
        if path.is_file() and holds(path, entry):
            return
        place_file(source, path)
        fsync_folder(self._objects)
        if not holds(path, entry):
            path.unlink()
            raise CorruptArtifact(f"{name} ({source}) is not what the manifest says; build the release again")

    def _record(self, did: str, release_id: str, **more: Any) -> None:
        record = {"did": did, "release_id": release_id, "at": self._clock().isoformat(), **more}
        append_durably(self._releases / "history.jsonl", json.dumps(record))

    def _history(self) -> Sequence[dict[str, Any]]:
        try:
            lines = (self._releases / "history.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue  # torn by a kill, before its release or pointer was written
        return records


def require_agreement(files: Mapping[str, Path], manifest: ReleaseManifest) -> None:
    """Raises CorruptArtifact unless the files have the manifest's names, and its release id is that of its files."""
    if set(files) != set(manifest.files):
        odd = ", ".join(sorted(set(files) ^ set(manifest.files)))
        raise CorruptArtifact(f"files and manifest of the release do not agree on: {odd}; build it again")
    if manifest.release_id != release_id_of(manifest.files):
        raise CorruptArtifact(f"{manifest.release_id!r} is not the id of these files; take release_id_of(files)")


def published_meanwhile(release_id: str, current: str) -> PublishedMeanwhile:
    """The error of a publisher of `release_id` that finds another release current than the one it had looked at."""
    return PublishedMeanwhile(
        f"release {release_id[:12]} is not published: somebody else published release {current[:12]} meanwhile; look "
        "at it (`recsys release list`) and publish again"
    )


def holds(path: Path, entry: FileEntry) -> bool:
    """Whether that file's bytes are those of the manifest; it must be there."""
    return path.stat().st_size == entry.size_bytes and sha256_file(path) == entry.sha256
