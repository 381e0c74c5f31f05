"""Writing files so that a reader, or the next run after a kill, finds the old bytes or the new ones."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file at `path` in one durable step: temporary file, fsync, rename, fsync of the folder.

    The folder must exist. A kill leaves the old file or the new one, and at worst a `.tmp-*` file beside it.
    """
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def append_durably(path: Path, line: str) -> None:
    """Append one line and fsync. A line that an earlier kill left torn is closed first, so that only it is lost."""
    with path.open("ab+") as stream:
        if stream.tell() > 0:
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def place_file(source: Path, target: Path) -> None:
    """Put the bytes of `source` at `target` in one durable step.

    A read-only source (every file of a finished artifact is one) is hard-linked; any other file is copied, because
    its owner may still write into it. The target is read-only.
    """
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    try:
        placed = temporary / target.name
        if not _linked(source, placed):
            shutil.copyfile(source, placed)
            placed.chmod(0o444)
        fsync_file(placed)
        os.replace(placed, target)
        fsync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _linked(source: Path, target: Path) -> bool:
    if source.stat().st_mode & 0o222:
        return False
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def fsync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in `folder`. Call it only while no other writer can be at work there."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def locked_folder(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold `folder` for one writer at a time, across processes; the kernel lets go when the holder dies.

    Several may hold it `shared`; who wants it alone waits for all of them.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
