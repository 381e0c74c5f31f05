"""Exposures leave a request by one append to a file, and a thread takes them to the store (`recsys.storage.drainer`).

    FOLDER/TOKEN/00000000000000000000.spool     one folder a process, named by chance, locked while the process lives
    FOLDER/TOKEN/00000000000004194304.spool     each file is named by the bytes that this spool held before it

A record is its length u32, its crc32 u32 and the packed exposure, little-endian, written in one call. There is no
fsync: what was appended survives kill -9 of the process, and the next one on this folder takes it to the store; a power
cut may take the last of it. A folder whose lock is free belongs to nobody any more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from zlib import crc32

from recsys.errors import StoreUnavailable
from recsys.events import Exposure
from recsys.storage.atomic import TEMPORARY_PREFIX
from recsys.storage.records import pack_exposure

MAX_BYTES = 64 * 2**20
FILE_BYTES = 4 * 2**20
MAX_RECORD_BYTES = 4 * 2**20
SUFFIX = ".spool"
_HEAD = struct.Struct("<II")


@dataclass(slots=True)
class SpoolFile:
    """One file of a spool.

    Attributes:
        start: how many bytes its spool held before it.
        size: bytes written to it so far.
    """

    path: Path
    descriptor: int
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records read from a file.

    Attributes:
        payloads: the packed exposures, in order.
        end: where in the file the last of them ends.
        torn: what follows is no whole record.
    """

    payloads: tuple[bytes, ...]
    end: int
    torn: bool


class Spool:
    """This process's spool. Safe from several threads.

    Attributes:
        spool_id: names it in the store.
        n_refused: exposures that were not taken.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, file_bytes: int = FILE_BYTES) -> None:
        """Makes this process's folder below `folder`.

        Args:
            max_bytes: of all spools below `folder`; those of other processes are looked at now and then.
            file_bytes: of one file, after which another is begun.

        Raises:
            StoreUnavailable: the folder cannot be made.
        """
        self.spool_id = secrets.token_hex(16)
        self.folder = folder
        self.n_refused = 0
        self._own_folder = folder / self.spool_id
        self._max_bytes, self._file_bytes = max_bytes, file_bytes
        self._files: list[SpoolFile] = []
        self._end = 0
        self._own_bytes = 0
        self._lock = Lock()
        self._closed = False
        with self._in_our_words():
            self._folder_lock = _make_locked(folder, self.spool_id)
        self._others_bytes = 0
        self.look_at_others()

    @property
    def pending_bytes(self) -> int:
        """What waits for the store: of this process, and of others when they were last looked at."""
        return self._own_bytes + self._others_bytes

    def append(self, exposure: Exposure) -> None:
        """Keep an exposure for the store; it survives the end of this process.

        Raises:
            StoreUnavailable: the spool is full, because the store was away for long; or the disk refuses.
        """
        payload = pack_exposure(exposure)
        record = _HEAD.pack(len(payload), crc32(payload)) + payload
        with self._lock:
            if self.pending_bytes + len(record) > self._max_bytes or len(record) > MAX_RECORD_BYTES:
                self.n_refused += 1
                raise StoreUnavailable(
                    f"the spool {self.folder} is full ({self.pending_bytes} bytes wait for the store): "
                    "see why the store does not take them"
                )
            try:
                self._write(record)
            except (OSError, ValueError) as error:
                self.n_refused += 1
                raise StoreUnavailable(f"the spool {self.folder}: {error}. Free disk space, or open it anew") from error

    def _write(self, record: bytes) -> None:
        file = self._files[-1] if self._files else self._begin_file()
        if file.size >= self._file_bytes:
            file = self._begin_file()
        written = os.write(file.descriptor, record)
        if written != len(record):  # a full disk takes a part, behind which nothing could be read
            os.ftruncate(file.descriptor, file.size)
            raise OSError(f"only {written} of {len(record)} bytes were written")
        file.size += written
        self._end += written
        self._own_bytes += written

    def _begin_file(self) -> SpoolFile:
        if self._closed:
            raise ValueError("it was closed")
        path = self._own_folder / f"{self._end:020d}{SUFFIX}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        self._files.append(SpoolFile(path, descriptor, self._end, 0))
        return self._files[-1]

    def files(self) -> tuple[SpoolFile, ...]:
        """Its files now, oldest first; only the last may still grow."""
        with self._lock:
            return tuple(SpoolFile(f.path, f.descriptor, f.start, f.size) for f in self._files)

    def forget(self, until: int) -> None:
        """Remove the files that hold nothing after byte `until`: the store has it all."""
        with self._lock:
            while self._files and self._files[0].end <= until:
                file = self._files.pop(0)
                self._own_bytes -= file.size
                file.path.unlink(missing_ok=True)
                os.close(file.descriptor)

    def look_at_others(self) -> None:
        """Measure the other spools below the folder: their bytes count too."""
        others_bytes = 0
        for path in self.folder.glob(f"*/*{SUFFIX}"):
            if path.parent != self._own_folder:
                with suppress(FileNotFoundError):  # drained meanwhile
                    others_bytes += path.stat().st_size
        self._others_bytes = others_bytes

    def close(self) -> None:
        """Take no more; what the store does not have yet stays for the next process."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for file in self._files:
                os.close(file.descriptor)
            if not self._files:
                self._own_folder.rmdir()
            self._files.clear()
            os.close(self._folder_lock)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"the spool {self.folder}: {error}. Check that it can be written") from error


def read_records(file: SpoolFile, at: int, most: int) -> Records:
    """Up to `most` whole records of `file` from its byte `at` on."""
    data = os.pread(file.descriptor, min(file.size - at, MAX_RECORD_BYTES), at)
    payloads: list[bytes] = []
    place = 0
    while len(payloads) < most:
        start = place + _HEAD.size
        if start > len(data):
            break
        length, checksum = _HEAD.unpack_from(data, place)
        payload = data[start : start + length]
        if not length or len(payload) < length or crc32(payload) != checksum:
            break
        payloads.append(payload)
        place = start + length
    return Records(tuple(payloads), at + place, torn=not payloads and at < file.size)


@contextmanager
def left_files(folder: Path) -> Iterator[list[SpoolFile] | None]:
    """The files of a process that has ended, oldest first, ours alone meanwhile; None while it has not ended, or
    where somebody else is at them. Of one spool, an earlier file must be stored before a later one."""
    with ExitStack() as opened:
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            yield None
            return
        files = []
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            descriptor = os.open(path, os.O_RDONLY)
            opened.callback(os.close, descriptor)
            files.append(SpoolFile(path, descriptor, int(path.stem), os.fstat(descriptor).st_size))
        yield files


def _make_locked(folder: Path, name: str) -> int:
    """Make the folder `name`, locked from the first moment that others can see it; the descriptor of its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f"{TEMPORARY_PREFIX}{name}"
    hidden.mkdir()
    lock = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    hidden.rename(folder / name)
    return lock
