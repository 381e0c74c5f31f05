"""What each reference held when it was read last, so that an unchanged catalogue is not read again.

`references.parquet` in a modality's folder: reference, stamp, content_hash. While a job runs, what it learns goes to
`references.log`, one line each, so that a killed job has not read in vain; the job's end writes the Parquet file anew
with the references of the catalogue as it is, and removes the log. It is a cache: without it all is read again.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.shards import write_atomically
from recsys.errors import EnvironmentProblem

NAME = "references.parquet"
LOG = "references.log"
_Entry = tuple[str, bytes]


class References:
    """reference → (stamp, content hash as bytes)."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` None keeps nothing."""
        self._folder = folder
        self._before: dict[str, _Entry] = _read(folder) if folder is not None else {}
        self._now: dict[str, _Entry] = {}
        self._unsaved: list[str] = []

    def content_hash(self, reference: str, stamp: str | None) -> bytes | None:
        """What it held, if it is as it was then."""
        entry = self._now.get(reference) or self._before.get(reference)
        if entry is None or stamp is None or entry[0] != stamp:
            return None
        self._now[reference] = entry
        return entry[1]

    def learn(self, reference: str, stamp: str | None, content_hash: bytes) -> None:
        if stamp is not None and self._folder is not None:
            self._now[reference] = (stamp, content_hash)
            self._unsaved.append(json.dumps([reference, stamp, content_hash.hex()]))

    def save(self) -> None:
        """Append what was learned to the log. Raises EnvironmentProblem."""
        if self._folder is None or not self._unsaved:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / LOG).open("a", encoding="utf-8") as stream:
                stream.write("\n" + "\n".join(self._unsaved) + "\n")
        except OSError as error:
            raise EnvironmentProblem(f"cannot write {self._folder / LOG}: {error.strerror}") from error
        self._unsaved.clear()

    def finish(self) -> None:
        """Write the references of the catalogue that was just read, and those alone. Raises EnvironmentProblem."""
        if self._folder is None:
            return
        log = self._folder / LOG
        if self._now != self._before or log.exists():
            names = sorted(self._now)
            table = pa.table(
                {
                    "reference": pa.array(names, pa.string()),
                    "stamp": pa.array([self._now[name][0] for name in names], pa.string()),
                    "content_hash": pa.array([self._now[name][1] for name in names], pa.binary(32)),
                }
            )
            buffer = io.BytesIO()
            pq.write_table(table, buffer, compression="zstd")
            write_atomically(self._folder / NAME, buffer.getvalue())
            log.unlink(missing_ok=True)


def _read(folder: Path) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    try:
        table = pq.read_table(io.BytesIO((folder / NAME).read_bytes()))
        columns = (table[name].to_pylist() for name in ("reference", "stamp", "content_hash"))
        entries.update((name, (stamp, content_hash)) for name, stamp, content_hash in zip(*columns, strict=True))
    except (OSError, pa.ArrowInvalid, KeyError):
        entries.clear()  # a cache: what cannot be read is learned again
    log = folder / LOG
    if log.exists():
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                name, stamp, content_hash = json.loads(line)
                entries[name] = (stamp, bytes.fromhex(content_hash))
            except (ValueError, TypeError):
                continue  # torn by a kill
    return entries
