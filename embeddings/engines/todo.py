"""The plan on disk: one file for each shard that is still to be encoded, taken by lease.

    todo/shard-000012.parquet   item_id, reference, content_hash, text: what to encode, in order
    todo/shard-000012.tries     one byte for each worker that has taken it and not ended it
    todo/complete               no more shards will come

A lease is an exclusive `flock` on the shard's file: the kernel lets go when the worker ends, however it ends. Between
machines it holds on file systems that know such locks across hosts: NFS from version 4, CephFS, Lustre mounted with
`flock`, GPFS. Where a file system refuses them the worker says so; where it grants them on each host alone (NFSv3 with
`nolock`), two workers may encode the same shard: they write the same bytes, and only time is lost.
The folder belongs to the job that holds the store's lock; the next job starts it anew.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.contents import Candidate
from embeddings.shards import write_atomically
from recsys.errors import EnvironmentProblem

FOLDER = "todo"
MAX_TRIES = 3
_NAME = re.compile(r"shard-(\d+)\.parquet")


@dataclass(frozen=True)
class Planned:
    """One content to encode; `text` where it is one."""

    candidate: Candidate
    text: str | None


class Lease:
    """The right to encode one shard, until it is finished or closed, or the process ends.

    Attributes:
        n_tries: workers that took it before and did not end it.
    """

    def __init__(self, path: Path, number: int, stream: BinaryIO) -> None:
        self.number = number
        self._path = path
        self._stream = stream
        self._tries = path.with_suffix(".tries")
        self.n_tries = _size(self._tries)

    def contents(self) -> list[Planned]:
        """What to encode, in order."""
        columns = pq.read_table(io.BytesIO(self._stream.read())).to_pydict()
        names = ("item_id", "reference", "content_hash", "text")
        return [
            Planned(Candidate(item_id, reference, content_hash), text)
            for item_id, reference, content_hash, text in zip(*(columns[name] for name in names), strict=True)
        ]

    def begin(self) -> None:
        """Note that a worker tries. Raises EnvironmentProblem."""
        _resize(self._tries, self.n_tries + 1)

    @property
    def is_current(self) -> bool:
        """Whether the job that planned it still wants it."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._stream.fileno()))
        except FileNotFoundError:
            return False

    def finish(self) -> None:
        """The shard is committed: take it off the list."""
        if self.is_current:
            self._path.unlink(missing_ok=True)
            self._tries.unlink(missing_ok=True)
        self._stream.close()

    def close(self) -> None:
        """Let another take it."""
        self._stream.close()


class Todo:
    """The folder `todo` of a store."""

    def __init__(self, store_dir: Path) -> None:
        self.folder = store_dir / FOLDER

    def write(self, number: int, contents: Sequence[Planned]) -> None:
        """One shard more. Raises EnvironmentProblem."""
        candidates = [each.candidate for each in contents]
        table = pa.table(
            {
                "item_id": pa.array([each.item_id for each in candidates], pa.string()),
                "reference": pa.array([each.reference for each in candidates], pa.string()),
                "content_hash": pa.array([each.content_hash for each in candidates], pa.binary(32)),
                "text": pa.array([each.text for each in contents], pa.string()),
            }
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
        write_atomically(self._path(number), buffer.getvalue())

    def complete(self) -> None:
        """No more shards will come."""
        write_atomically(self.folder / "complete", b"")

    @property
    def is_complete(self) -> bool:
        return (self.folder / "complete").exists()

    def remaining(self) -> list[int]:
        """Shards not committed yet, in order; empty where the folder is gone."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)))

    def lease(self, number: int) -> Lease | None:
        """The right to encode a shard; None when another worker has it, or it is done.

        Raises:
            EnvironmentProblem: the file system has no locks.
        """
        path = self._path(number)
        try:
            stream = path.open("r+b")  # NFS grants exclusive locks only on what may be written
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise EnvironmentProblem(
                f"the file system of {self.folder} has no locks ({error.strerror}): put the store on one with flock"
            ) from error
        lease = Lease(path, number, stream)
        if not lease.is_current:  # committed while this worker opened it
            lease.close()
            return None
        return lease

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:06d}.parquet"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _resize(path: Path, size: int) -> None:
    try:
        with path.open("ab") as stream:
            stream.truncate(size)
    except FileNotFoundError:
        return  # the folder is gone, and the job with it
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}") from error
