"""From a catalogue's items to the contents that nobody has encoded yet, each once, in the order of the input.

    stamp (threads, 256 at a time) → known by its stamp? → read and hash (threads) → known by its content? → candidate

What is read ahead is bounded in number and in bytes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from embeddings.item_text import normalise_text
from embeddings.ledger import Ledger
from embeddings.preprocess.features import Content
from embeddings.reading import ContentReader
from embeddings.references import References
from embeddings.refused import Refused

Item = tuple[str, str | None]
"""(item_id, its text, or the reference that names its picture or sound; None where it has none)."""

STAMPS_AT_ONCE = 256
MAX_BYTES_AHEAD = 256 * 2**20
READS_AHEAD = 4
"""Reads begun for each thread: one slow server does not stop the others at once."""
_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A content to encode: the first item that has it, what names it, and its sha256."""

    item_id: str
    reference: str
    content_hash: bytes


@dataclass(frozen=True)
class Rejected:
    """An item whose content has no vector, and why."""

    item_id: str
    reference: str
    reason: str
    message: str


@dataclass
class Seen:
    """What one run has seen of the catalogue, in its order; 32 bytes an item beside its id.

    Attributes:
        unreadable: row → why its content could not be had.
    """

    item_ids: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    hashes: bytearray = field(default_factory=bytearray)
    n_absent: int = 0
    n_reused: int = 0
    n_duplicates: int = 0
    pending: set[bytes] = field(default_factory=set)
    unreadable: dict[int, Rejected] = field(default_factory=dict)

    def add(self, item_id: str, reference: str, content_hash: bytes | None) -> None:
        self.item_ids.append(item_id)
        self.references.append(reference)
        self.hashes += content_hash or _NOTHING

    def content_hash(self, row: int) -> bytes | None:
        found = bytes(self.hashes[32 * row : 32 * row + 32])
        return None if found == _NOTHING else found

    def __len__(self) -> int:
        return len(self.item_ids)


def fresh_contents(
    items: Iterable[Item],
    seen: Seen,
    ledger: Ledger,
    *,
    reader: ContentReader | None,
    references: References,
    threads: int,
    retry_refused: bool = False,
    read_known: bool = True,
) -> Generator[tuple[Candidate, Content], None, None]:
    """The contents without a vector.

    Args:
        reader: None: the items hold texts.
        read_known: False: a content whose hash its stamp tells is given as b"", unread: a plan needs no bytes.
    """
    read = _texts(items)
    if reader is not None:
        read = _Reading(reader, references, ledger, seen, threads, retry_refused, read_known)(items)
    for item_id, reference, content_hash, content in read:
        if isinstance(content, Refused):
            seen.unreadable[len(seen)] = Rejected(item_id, reference, content.reason, str(content))
            content_hash = None
        elif content_hash is None:
            seen.n_absent += 1
        seen.add(item_id, reference, content_hash)
        if content_hash is None:
            continue
        if content_hash in seen.pending:
            seen.n_duplicates += 1
        elif content_hash in ledger.places or (content_hash in ledger.refused and not retry_refused):
            seen.n_reused += 1
        elif not isinstance(content, Refused) and (content is not None or not read_known):
            seen.pending.add(content_hash)
            yield Candidate(item_id, reference, content_hash), b"" if content is None else content


_Read = tuple[str, str, bytes | None, Content | Refused | None]
"""(item_id, reference, content hash, content): hash None = the item has no content."""


def _texts(items: Iterable[Item]) -> Iterator[_Read]:
    for item_id, text in items:
        if text is None:
            yield item_id, "", None, None
        else:
            words = normalise_text(text)
            yield item_id, "", hashlib.sha256(words.encode("utf-8", "replace")).digest(), words


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An item on its way; `reading` None: it has nothing to read, or what it holds is `known`."""

    item_id: str
    reference: str
    stamp: str | None
    known: bytes | None
    reading: Future[tuple[bytes, bytes]] | None


class _Reading:
    """Reads in threads, hands on in order."""

    def __init__(
        self,
        reader: ContentReader,
        references: References,
        ledger: Ledger,
        seen: Seen,
        threads: int,
        retry_refused: bool,
        read_known: bool,
    ) -> None:
        self._reader = reader
        self._references = references
        self._ledger = ledger
        self._seen = seen
        self._threads = threads
        self._retry_refused = retry_refused
        self._read_known = read_known
        self._lock = threading.Lock()
        self._bytes_ahead = 0
        self._n_reading = 0

    def __call__(self, items: Iterable[Item]) -> Iterator[_Read]:
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="read")
        try:
            yield from self._in_order(self._stamped(iter(items), pool), pool)
        finally:
            # Whoever stops early does not wait for servers that are slow.
            pool.shutdown(wait=False, cancel_futures=True)

    def _in_order(self, stamped: Iterator[tuple[str, str, str | None]], pool: ThreadPoolExecutor) -> Iterator[_Read]:
        waiting: deque[_Waiting] = deque()
        ended = False
        while waiting or not ended:
            while not ended and self._has_room(len(waiting)):
                following = next(stamped, None)
                if following is None:
                    ended = True
                else:
                    waiting.append(self._begun(*following, pool))
            if waiting:
                yield self._result(waiting.popleft())

    def _has_room(self, n_waiting: int) -> bool:
        few = self._n_reading < READS_AHEAD * self._threads and n_waiting < 4 * STAMPS_AT_ONCE
        return n_waiting == 0 or (few and self._bytes_ahead < MAX_BYTES_AHEAD)

    def _begun(self, item_id: str, reference: str, stamp: str | None, pool: ThreadPoolExecutor) -> _Waiting:
        known = self._references.content_hash(reference, stamp) if reference else None
        if not reference or self._is_done(known):
            return _Waiting(item_id, reference, stamp, known, None)
        self._n_reading += 1
        return _Waiting(item_id, reference, stamp, known, pool.submit(self._read, reference))

    def _is_done(self, known: bytes | None) -> bool:
        if known is None:
            return False
        if not self._read_known or known in self._ledger.places or known in self._seen.pending:
            return True
        return known in self._ledger.refused and not self._retry_refused

    def _result(self, waiting: _Waiting) -> _Read:
        item_id, reference = waiting.item_id, waiting.reference
        if waiting.reading is None:
            return item_id, reference, waiting.known, None
        self._n_reading -= 1
        try:
            content, content_hash = waiting.reading.result()
        except Refused as refused:
            return item_id, reference, None, refused
        except OSError as error:
            return item_id, reference, None, Refused("not_readable", f"{reference} cannot be read: {error}")
        with self._lock:
            self._bytes_ahead -= len(content)
        # A reader that has just fetched it may only now know its stamp.
        self._references.learn(reference, waiting.stamp or self._reader.stamp(reference), content_hash)
        return item_id, reference, content_hash, content

    def _read(self, reference: str) -> tuple[bytes, bytes]:
        content = self._reader.read(reference)
        with self._lock:
            self._bytes_ahead += len(content)
        return content, hashlib.sha256(content).digest()

    def _stamped(self, items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[tuple[str, str, str | None]]:
        """(item_id, reference or "", stamp) in order, a few hundred ahead: a stamp may be a question to a server."""
        ahead: deque[tuple[list[Item], Future[list[str | None]]]] = deque()
        while True:
            while len(ahead) < 2 and (chunk := list(islice(items, STAMPS_AT_ONCE))):
                ahead.append((chunk, pool.submit(self._stamps, chunk)))
            if not ahead:
                return
            chunk, stamps = ahead.popleft()
            for (item_id, reference), stamp in zip(chunk, stamps.result(), strict=True):
                yield item_id, reference or "", stamp

    def _stamps(self, chunk: list[Item]) -> list[str | None]:
        return [self._reader.stamp(reference) if reference else None for _, reference in chunk]
