"""What one machine has pulled of the releases. A cache: it may be deleted at any time, and costs a pull then.

objects/<sha256[:2]>/<sha256>         the bytes, verified before they get this name
releases/<release_id>/manifest.json   its time is when the release was last asked for
current.json                          the pointer as it was last read

All processes of a machine share it: each object is pulled by one of them, and the others wait for it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from threading import Lock

from pydantic import ValidationError

from recsys.errors import CorruptArtifact, EnvironmentProblem
from recsys.manifest import FileEntry, ReleaseManifest, release_id_of
from recsys.storage.atomic import TEMPORARY_PREFIX, locked_folder, remove_leftovers, write_atomic
from recsys.storage.pointer_chain import Link
from recsys.storage.release_files import holds

_ATTEMPTS = 2
_LOGGER = logging.getLogger(__name__)


class ReleaseCache:
    """Raises EnvironmentProblem where its folder cannot be written."""

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        """
        Args:
            folder: made by the first write.
            keep: releases that stay, besides those wanted or held: the ones last asked for.
        """
        self._folder, self._keep = folder, keep
        self._objects, self._releases, self._pointer = folder / "objects", folder / "releases", folder / "current.json"
        self._held: tuple[str, int] | None = None
        self._holding = Lock()

    def manifest(self, release_id: str) -> ReleaseManifest | None:
        """None where it was not pulled, or is damaged. The release counts as asked for."""
        path = self._releases / release_id / "manifest.json"
        try:
            with locked_folder(self._releases, shared=True):
                manifest = ReleaseManifest.model_validate_json(path.read_bytes())
                os.utime(path)
        except (OSError, ValidationError):
            return None
        return manifest if manifest.release_id == release_id == release_id_of(manifest.files) else None

    def keep_manifest(self, manifest: ReleaseManifest) -> None:
        """Before its objects are pulled, so that no sweep takes them away again."""
        folder = self._releases / manifest.release_id
        self._made(folder)
        with locked_folder(self._releases, shared=True):
            self._made(folder)
            write_atomic(folder / "manifest.json", manifest.model_dump_json().encode())

    def object(self, entry: FileEntry, *, verify: bool) -> Path | None:
        """The bytes of that content; None where they are not here, or damaged."""
        path = self._path(entry)
        try:
            whole = path.stat().st_size == entry.size_bytes and (not verify or holds(path, entry))
        except OSError:
            return None
        return path if whole else None

    def pulled(self, entry: FileEntry, pull: Callable[[Path], None]) -> Path:
        """The bytes of that content, which `pull` writes to a new file where no process here has them yet.

        Raises:
            CorruptArtifact: what comes is not that content, twice.
        """
        path = self._path(entry)
        self._made(path.parent)
        with locked_folder(path.parent):
            if (found := self.object(entry, verify=True)) is not None:
                return found
            remove_leftovers(path.parent)
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
            try:
                self._pull(entry, pull, temporary / path.name)
                os.replace(temporary / path.name, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return path

    def remember(self, link: Link) -> None:
        """That this is the pointer now. What cannot be written is pulled again after a restart, so it is no error."""
        try:
            if self._pointer.read_bytes() == link.data:
                return
        except OSError:
            pass
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._pointer, link.data)
        except OSError as error:
            _LOGGER.warning("%s cannot be written (%s): without it, starting needs the network", self._pointer, error)

    def remembered(self) -> Link | None:
        """The pointer as it was last read on this machine."""
        try:
            return Link(0, self._pointer.read_bytes())
        except OSError:
            return None

    def hold(self, release_id: str) -> None:
        """This process needs that release and, from now on, no other; the kernel lets go when the process ends."""
        folder = self._releases / release_id
        self._made(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with self._holding:
            before, self._held = self._held, (release_id, descriptor)
        if before is not None:
            os.close(before[1])

    def sweep(self, wanted: Collection[str]) -> None:
        """Remove the releases that are neither wanted, nor held by a process, nor among the last ones asked for, and
        the objects that no other release has."""
        if not self._releases.is_dir():
            return
        with locked_folder(self._releases):
            by_age = sorted(self._releases.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in by_age[self._keep :]:
                if path.parent.name not in wanted and not _is_held(path.parent):
                    shutil.rmtree(path.parent, ignore_errors=True)
            self._remove_objects(self._needed())

    def _needed(self) -> set[str]:
        needed: set[str] = set()
        for path in self._releases.glob("*/manifest.json"):
            with suppress(OSError, ValidationError):
                manifest = ReleaseManifest.model_validate_json(path.read_bytes())
                needed |= {entry.sha256 for entry in manifest.files.values()}
        return needed

    def _remove_objects(self, needed: Collection[str]) -> None:
        """Files that a process has mapped live on until it lets go."""
        for path in self._objects.glob("*/*"):
            if path.name not in needed and not path.name.startswith(TEMPORARY_PREFIX):
                path.unlink(missing_ok=True)

    def _pull(self, entry: FileEntry, pull: Callable[[Path], None], target: Path) -> None:
        for _ in range(_ATTEMPTS):
            target.unlink(missing_ok=True)
            pull(target)
            if holds(target, entry):
                target.chmod(0o444)
                return
        raise CorruptArtifact(f"the object {entry.sha256} is damaged where the releases lie")

    def _path(self, entry: FileEntry) -> Path:
        return self._objects / entry.sha256[:2] / entry.sha256

    def _made(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblem(
                f"{folder} cannot be made ({error.strerror}): set cache_dir under [releases] to a folder that you may "
                "write"
            ) from None


def _is_held(folder: Path) -> bool:
    """Whether a process, this one included, holds that release."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
