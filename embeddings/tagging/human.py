"""People's words on tags: `data/tags/human.jsonl`, one a line, only ever appended to.

    {"item_id": "tt0114709", "tag": "beach", "verdict": "no", "by": "ann", "at": "2026-05-01T12:00:00Z"}

Of one item and tag the latest word counts. A line that cannot be read is told, and stays where it is.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pyarrow as pa

from recsys.errors import InputError
from recsys.quarantine import clean_text
from recsys.storage.atomic import fsync_folder
from recsys.tags import MAX_TAG_CHARACTERS, TAGS_SCHEMA
from recsys.types import MAX_ID_CHARACTERS

HUMAN_FILE = "tags/human.jsonl"

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]


class Word(msgspec.Struct, frozen=True):
    """What one person said of one item and tag.

    Attributes:
        by: who.
        at: when, with a zone.
        source: fingerprint of the file that it was imported from; "" where there was none.
    """

    item_id: Text
    tag: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TAG_CHARACTERS)]
    verdict: Literal["yes", "no"]
    by: Text
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    source: str = ""


@dataclass(frozen=True)
class BadLine:
    """A line that is no word, from 1, and why."""

    line: int
    message: str
    raw: str


@dataclass(frozen=True)
class Words:
    """A file of people's words, in its order."""

    words: tuple[Word, ...] = ()
    bad_lines: tuple[BadLine, ...] = ()

    def table(self) -> pa.Table:
        """`TAGS_SCHEMA`, one row a word."""
        words, n = self.words, len(self.words)
        return pa.table(
            {
                "item_id": [each.item_id for each in words],
                "tag": [each.tag for each in words],
                "verdict": [each.verdict for each in words],
                "confidence": pa.array([float(each.verdict == "yes") for each in words], pa.float32()),
                "by": pa.repeat("human", n),
                "head": pa.nulls(n, pa.string()),
                "model": [each.by for each in words],
                "version": pa.nulls(n, pa.string()),
                "at": pa.array([each.at for each in words], pa.timestamp("ms", "UTC")),
                "evidence": pa.nulls(n, pa.string()),
            },
            schema=TAGS_SCHEMA,
        )

    def latest(self) -> dict[tuple[str, str], Word]:
        """(item_id, tag) → the word that counts."""
        latest: dict[tuple[str, str], Word] = {}
        for word in self.words:
            key = word.item_id, word.tag
            if key not in latest or word.at >= latest[key].at:
                latest[key] = word
        return latest


def read_words(path: Path) -> Words:
    """All of the file; nothing where there is none. Raises InputError: it cannot be read at all."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Words()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    words, bad = [], []
    decoder = msgspec.json.Decoder(Word)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            words.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            bad.append(BadLine(number, str(error), clean_text(line.decode("utf-8", "replace"))))
    return Words(tuple(words), tuple(bad))


def append_words(path: Path, words: Sequence[Word]) -> None:
    """All of them, durably, or none; of several writers each one's lines stay together.

    Raises InputError: the file cannot be written. A line that an earlier kill left torn is closed first, so that it
    alone is lost.
    """
    if not words:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _append(descriptor, _lines(words))
        finally:
            os.close(descriptor)
        fsync_folder(path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error}") from None


def _lines(words: Iterable[Word]) -> bytes:
    in_utc = (msgspec.structs.replace(each, at=each.at.astimezone(UTC)) for each in words)
    return b"".join(msgspec.json.encode(each) + b"\n" for each in in_utc)


def _append(descriptor: int, data: bytes) -> None:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if end and os.pread(descriptor, 1, end - 1) != b"\n":
        data = b"\n" + data
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise
