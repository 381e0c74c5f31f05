"""The embedding job: items → vectors in a store, encoding only what is new.

    read → hash → skip what is known → preprocess (worker threads) → forward → shard → commit

The to-do list is the input's order without what the store holds; shards are cut from its front, and no batch
crosses a shard. So a run that is killed anywhere loses at most one shard, and the next run with the same input ends
with the same bytes as an undisturbed one. Memory is bounded by one shard of vectors and a few batches of content.
"""

from __future__ import annotations

import fcntl
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.batching import BatchLimits
from embeddings.encoder import Encoder
from embeddings.item_text import bytes_hash, normalise_text, text_hash
from embeddings.ledger import Ledger
from embeddings.preprocess.features import Content, Features
from embeddings.shards import ShardRows, ShardStore
from embeddings.stored import write_items
from recsys.errors import EnvironmentProblem, InputError

Loader = Callable[[], Content | None]
_Vector = NDArray[np.float16]
Item = tuple[str, Content | Loader | None]
"""(item_id, its content, or what reads it when its turn comes, or None where it has none)."""

OnProgress = Callable[[int, int], None]
"""Called with (items seen, contents encoded) so far."""


@dataclass(frozen=True)
class Rejected:
    """An item whose content cannot be encoded, and why."""

    item_id: str
    reason: str


@dataclass(frozen=True)
class EmbedReport:
    """What an embedding job did.

    Attributes:
        space_id: the embedding space of its vectors.
        n_items: items seen.
        n_absent: items without this kind of content.
        n_encoded: contents encoded in this run.
        n_reused: items whose content the store held before.
        n_duplicates: items with the same content as an earlier item of this run: encodes saved.
        rejected: items with content that cannot be encoded.
        content_hashes: item_id → content hash of every item that has a vector now.
    """

    space_id: str
    n_items: int
    n_absent: int
    n_encoded: int
    n_reused: int
    n_duplicates: int
    rejected: tuple[Rejected, ...]
    content_hashes: dict[str, str]

    @property
    def n_failed(self) -> int:
        return len(self.rejected)


def embed_items(
    items: Iterable[Item],
    encoder: Encoder,
    store_dir: Path,
    *,
    shard_size: int = 1024,
    limits: BatchLimits | None = None,
    workers: int = 2,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Encode what `store_dir` does not hold yet, and record which item has which content.

    Args:
        items: in a repeatable order; a loader may raise OSError or InputError, which rejects that item alone.
        store_dir: of this encoder's space alone (`shards.store_folder`).
        shard_size: vectors of a shard, the most that a kill loses.
        workers: threads that preprocess while the device computes.

    Raises:
        SpaceMismatch: the store holds vectors of another space.
        CorruptArtifact, MissingArtifact: its files are damaged.
        EnvironmentProblem: another job writes there, or the disk is full.
    """
    limits = limits or BatchLimits()
    with _only_writer(store_dir):
        store = ShardStore.open(store_dir, encoder.space)
        run = _Run(Ledger.of(store))
        fresh = _fresh(items, run)
        prepared = _prepared(fresh, run, encoder, workers=workers, lookahead=2 * limits.max_items)
        _encode(prepared, run, encoder, store, shard_size=shard_size, limits=limits, on_progress=on_progress)
        report = run.report(encoder.space.space_id)
        write_items(store_dir, report.content_hashes)
    return report


@dataclass(frozen=True)
class _Todo:
    item_id: str
    content_hash: str
    content: Content


@dataclass
class _Run:
    """What one run has seen so far."""

    ledger: Ledger
    n_items: int = 0
    n_absent: int = 0
    n_encoded: int = 0
    n_reused: int = 0
    n_duplicates: int = 0
    content_hashes: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    unreadable: list[Rejected] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    def report(self, space_id: str) -> EmbedReport:
        unusable = dict.fromkeys(self.ledger.unusable, NOT_FINITE) | self.unusable
        known = self.content_hashes.items()
        bad = [Rejected(item_id, unusable[content_hash]) for item_id, content_hash in known if content_hash in unusable]
        good = {item_id: content_hash for item_id, content_hash in known if content_hash not in unusable}
        return EmbedReport(
            space_id=space_id,
            n_items=self.n_items,
            n_absent=self.n_absent,
            n_encoded=self.n_encoded,
            n_reused=self.n_reused,
            n_duplicates=self.n_duplicates,
            rejected=(*self.unreadable, *bad),
            content_hashes=good,
        )


NOT_FINITE = "the encoder gives no finite vector for it"


@contextmanager
def _only_writer(store_dir: Path) -> Iterator[None]:
    """One job at a time in a store; the lock goes with the process, however it ends."""
    store_dir.mkdir(parents=True, exist_ok=True)
    with (store_dir / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EnvironmentProblem(f"another embedding job writes to {store_dir}: wait for it to end") from None
        yield


def _fresh(items: Iterable[Item], run: _Run) -> Iterator[_Todo]:
    """Read and hash; the contents that nobody has encoded, each once, in the order of the input."""
    for item_id, source in items:
        run.n_items += 1
        try:
            content = source() if callable(source) else source
        except (OSError, InputError) as error:
            run.unreadable.append(Rejected(item_id, _reason(error)))
            continue
        if content is None:
            run.n_absent += 1
            continue
        if isinstance(content, str):
            content = normalise_text(content)
        content_hash = text_hash(content) if isinstance(content, str) else bytes_hash(content)
        run.content_hashes[item_id] = content_hash
        if content_hash in run.ledger:
            run.n_reused += 1
        elif content_hash in run.seen:
            run.n_duplicates += 1
        else:
            run.seen.add(content_hash)
            yield _Todo(item_id, content_hash, content)


def _reason(error: OSError | InputError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror} ({error.filename})"
    return str(error)


def _prepared(
    todos: Iterator[_Todo], run: _Run, encoder: Encoder, *, workers: int, lookahead: int
) -> Iterator[tuple[_Todo, Features]]:
    """Preprocess in worker threads, at most `lookahead` items ahead; in order, without those that fail."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[_Todo, Future[Features]]] = deque()
        while True:
            for todo in islice(todos, lookahead - len(waiting)):
                waiting.append((todo, pool.submit(encoder.preprocess, todo.content)))
            if not waiting:
                return
            todo, future = waiting.popleft()
            try:
                features = future.result()
            except InputError as error:
                run.unusable[todo.content_hash] = str(error)
                continue
            yield todo, features


def _encode(
    prepared: Iterator[tuple[_Todo, Features]],
    run: _Run,
    encoder: Encoder,
    store: ShardStore,
    *,
    shard_size: int,
    limits: BatchLimits,
    on_progress: OnProgress | None,
) -> None:
    """Forward and write, shard after shard; texts are sorted by length within a shard, images come in batches."""
    window = shard_size if encoder.space.modality == "text" else limits.max_items
    done: list[tuple[_Todo, _Vector]] = []
    while chunk := list(islice(prepared, min(window, shard_size - len(done)))):
        vectors = encoder.encode_features([features for _, features in chunk], limits)
        done.extend((todo, vector) for (todo, _), vector in zip(chunk, vectors.astype(np.float16), strict=True))
        run.n_encoded += len(chunk)
        if on_progress:
            on_progress(run.n_items, run.n_encoded)
        if len(done) == shard_size:
            store, done = _commit(store, done, run), []
    if done:
        _commit(store, done, run)
    if on_progress:
        on_progress(run.n_items, run.n_encoded)


def _commit(store: ShardStore, done: list[tuple[_Todo, _Vector]], run: _Run) -> ShardStore:
    good = [(todo, vector) for todo, vector in done if np.isfinite(vector).all()]
    unusable = {todo.content_hash for todo, vector in done if not np.isfinite(vector).all()}
    run.unusable |= dict.fromkeys(unusable, NOT_FINITE)
    vectors = np.array([vector for _, vector in good], dtype=np.float16).reshape(len(good), store.manifest.space.dim)
    rows = ShardRows([todo.item_id for todo, _ in good], [todo.content_hash for todo, _ in good], vectors)
    return store.append(rows, unusable=sorted(unusable))
