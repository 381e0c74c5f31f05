"""What came of each URL that was asked for: the hash of its content, or the reason why there is none.

A log of JSON lines. It is only appended to, each record in one write under a lock, so that processes on several
machines may share it, and a kill tears at most the last line, which is then ignored. Of several records for one URL
the last counts; opening it drops the others once they are most of the file.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from embeddings.refused import Reason
from embeddings.sources.fetch import Failed, Fetched
from recsys.errors import EnvironmentProblem
from recsys.storage.atomic import TEMPORARY_PREFIX, fsync_folder, locked_folder

_MIN_WASTED_LINES = 1_000


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line: `sha256` and `size` of the content, or `reason` and `message`."""

    url: str
    tries: int
    sha256: str | None = None
    size: int = 0
    etag: str | None = None
    last_modified: str | None = None
    reason: Reason | None = None
    message: str = ""


_decoder = msgspec.json.Decoder(_Record)


@dataclass(frozen=True, slots=True)
class Got:
    """A URL was fetched; `sha256` of its content, in hex."""

    sha256: str


class FetchLedger:
    """The log in `folder`. Safe from many threads, and from many processes at a time.

    Args:
        retry_failed: forget the failures that are in the log now, so that each is asked for once more.

    Raises:
        EnvironmentProblem: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, *, retry_failed: bool = False) -> None:
        self._folder = folder
        self._path = folder / "ledger.jsonl"
        self._mutex = threading.Lock()
        self._known: dict[bytes, bytes | Failed] = {}
        self._read_to = 0
        self._inode = 0
        self._lines = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked_folder(folder):
                self._path.touch()
                self._catch_up()
                if self._lines > 2 * len(self._known) + _MIN_WASTED_LINES:
                    self._compact()
        except OSError as error:
            raise _unusable(folder, error) from None
        failed = {key for key, known in self._known.items() if isinstance(known, Failed)}
        self._forgiven = failed if retry_failed else set()

    def find(self, url: str) -> Got | Failed | None:
        """What came of that URL, here or in another process; None where nobody has asked for it.

        Raises:
            EnvironmentProblem: the log cannot be read.
        """
        key = _key(url)
        with self._mutex:
            if key not in self._known:
                try:
                    self._catch_up()
                except OSError as error:
                    raise _unusable(self._folder, error) from None
            known = self._known.get(key)
            if known is None or key in self._forgiven:
                return None
            return known if isinstance(known, Failed) else Got(known.hex())

    def record(self, url: str, outcome: Fetched | Failed, sha256: str | None = None) -> None:
        """Write down what came of it; `sha256` of the content where it was fetched.

        Raises:
            EnvironmentProblem: the disk is full or fails.
        """
        if isinstance(outcome, Failed):
            record = _Record(url, outcome.tries, reason=outcome.reason, message=outcome.message)
        else:
            size = len(outcome.content)
            record = _Record(url, outcome.tries, sha256, size, outcome.etag, outcome.last_modified)
        line = msgspec.json.encode(record) + b"\n"
        with self._mutex:
            try:
                with locked_folder(self._folder):
                    self._catch_up()
                    self._append(line)
            except OSError as error:
                raise _unusable(self._folder, error) from None
            self._learn(record)
            self._forgiven.discard(_key(url))

    def reasons(self) -> Counter[str]:
        """How many URLs failed, by reason."""
        with self._mutex:
            return Counter(known.reason for known in self._known.values() if isinstance(known, Failed))

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            end = os.fstat(descriptor).st_size
            if end and os.pread(descriptor, 1, end - 1) != b"\n":
                line = b"\n" + line  # a writer was killed here: only its line is lost
            if os.write(descriptor, line) != len(line):
                raise OSError(28, "the disk is full")
            self._read_to = end + len(line)
        finally:
            os.close(descriptor)
        self._lines += 1

    def _catch_up(self) -> None:
        """Read what was appended since, or everything where another process has compacted the log."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return
        if status.st_ino != self._inode or status.st_size < self._read_to:
            self._inode, self._read_to, self._lines = status.st_ino, 0, 0
            self._known.clear()
        if status.st_size > self._read_to:
            for end, _, record in _records(self._path, self._read_to):
                self._read_to = end
                self._lines += 1
                if record is not None:
                    self._learn(record)

    def _learn(self, record: _Record) -> None:
        if record.sha256 is not None:
            self._known[_key(record.url)] = bytes.fromhex(record.sha256)
        elif record.reason is not None:
            self._known[_key(record.url)] = Failed(record.reason, record.message, record.tries)

    def _compact(self) -> None:
        last = {_key(record.url): end for end, _, record in _records(self._path, 0) if record is not None}
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                for end, line, record in _records(self._path, 0):
                    if record is not None and last[_key(record.url)] == end:
                        stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self._path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        fsync_folder(self._folder)
        self._catch_up()


def _records(path: Path, start: int) -> Iterator[tuple[int, bytes, _Record | None]]:
    """(where the line ends, the line, what it says) for each whole line; None where a kill tore it."""
    with path.open("rb") as stream:
        stream.seek(start)
        end = start
        for line in stream:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                record = _decoder.decode(line)
                bytes.fromhex(record.sha256 or "")
            except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
                yield end, line, None
            else:
                yield end, line, record


def _key(url: str) -> bytes:
    """16 bytes for a URL of any length: millions of them are held in memory."""
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _unusable(folder: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(f"{folder} cannot be written ({error.strerror}): make room there and allow writing")
