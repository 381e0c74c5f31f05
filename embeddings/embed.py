"""The embedding job: items → vectors in a store, encoding only what is new.

    read → hash → skip what is known → prepare (isolated processes) → forward → shard → commit

The to-do list is the input's order without what the store holds; shards are cut from its front, and no batch
crosses a shard. So a run that is killed anywhere loses at most one shard, and the next run with the same input ends
with the same bytes as an undisturbed one. What is read and decoded ahead is bounded; an item costs some hundred bytes.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from embeddings.batching import BatchLimits
from embeddings.contents import Item, Rejected, Seen, fresh_contents
from embeddings.encoder import Encoder
from embeddings.ledger import Ledger, SameFeatures
from embeddings.prepare import Prepared, prepared
from embeddings.reading import ContentReader
from embeddings.references import References
from embeddings.shards import ShardStore, forget_shards_from, remove_torn
from embeddings.stored import write_items
from embeddings.work import Encoded, encode_shard
from recsys.errors import EnvironmentProblem


@dataclass(frozen=True)
class EmbedOptions:
    """How an embedding job runs; nothing here but `shard_size` and `limits` touches a byte of its result.

    Attributes:
        shard_size: contents of a shard, the most that a kill loses.
        limits: of one forward pass; None takes the encoder's own.
        readers: threads that read contents.
        decode_workers: isolated processes that decode; 0 decodes in this process.
        retry_refused: try contents again that earlier runs refused.
        references: folder that remembers what references held; None reads everything each time.
    """

    shard_size: int = 1024
    limits: BatchLimits | None = None
    readers: int = 8
    decode_workers: int = 0
    retry_refused: bool = False
    references: Path | None = None


@dataclass(frozen=True)
class EmbedProgress:
    """How far a job is.

    Attributes:
        n_seen: items read so far.
        n_encoded: contents encoded so far.
        busy: share of the time since the first content in which the device had work.
    """

    n_seen: int
    n_encoded: int
    busy: float


OnProgress = Callable[[EmbedProgress], None]


@dataclass(frozen=True)
class EmbedReport:
    """What an embedding job did.

    Attributes:
        space_id: the embedding space of its vectors.
        compute: what did the arithmetic, as `onnxruntime-fp32`.
        n_items: items seen.
        n_absent: items without this kind of content.
        n_encoded: contents encoded in this run.
        n_reused: items whose content the store held before.
        n_duplicates: items with the same content as an earlier item of this run.
        n_same: contents of other bytes that look to the encoder exactly like another one.
        rejected: items with content that has no vector.
        content_hashes: item_id → content hash of every item that has a vector now, in the order of the input; hex.
        device_s: seconds of the device.
        busy: share of the encoding time in which the device had work.
    """

    space_id: str
    compute: str
    n_items: int
    n_absent: int
    n_encoded: int
    n_reused: int
    n_duplicates: int
    n_same: int
    rejected: tuple[Rejected, ...]
    content_hashes: Mapping[str, str]
    device_s: float
    busy: float

    @property
    def n_failed(self) -> int:
        return len(self.rejected)

    @property
    def n_saved(self) -> int:
        """Encodes that the ledger saved."""
        return self.n_reused + self.n_duplicates + self.n_same

    @property
    def saved_device_s(self) -> float:
        """What they would have taken, at this run's rate; 0 where it encoded nothing to tell by."""
        return self.n_saved * self.device_s / self.n_encoded if self.n_encoded else 0.0


@dataclass
class Effort:
    """What encoding took, so far: the figures of `embeddings.work.Encoded`, added up."""

    n_encoded: int = 0
    n_same: int = 0
    device_s: float = 0.0
    starved_s: float = 0.0

    @property
    def busy(self) -> float:
        """Share of the time in which the device had work."""
        total_s = self.device_s + self.starved_s
        return self.device_s / total_s if total_s else 0.0


def embed_items(
    items: Iterable[Item],
    encoder: Encoder,
    store_dir: Path,
    *,
    reader: ContentReader | None = None,
    options: EmbedOptions | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """Encode what `store_dir` does not hold yet, and record which item has which content.

    Args:
        items: in a repeatable order.
        store_dir: of this encoder's space alone (`shards.store_folder`).
        reader: reads what the items' references name; None: the items hold texts.

    Raises:
        SpaceMismatch: the store holds vectors of another space.
        CorruptArtifact, MissingArtifact: its files are damaged.
        EnvironmentProblem: another job writes there, or the disk is full.
    """
    options = options or EmbedOptions()
    with only_writer(store_dir):
        run = _Run(encoder, ShardStore.open(store_dir, encoder.space), options, on_progress)
        run.encode(items, reader)
        forget_shards_from(store_dir, len(run.store.shards))
        report = run.report()
        write_items(store_dir, report.content_hashes)
        run.references.finish()
    return report


class _Run:
    """One run of the job, in this process."""

    def __init__(
        self, encoder: Encoder, store: ShardStore, options: EmbedOptions, on_progress: OnProgress | None
    ) -> None:
        self.encoder = encoder
        self.store = store
        self.options = options
        self.on_progress = on_progress
        self.ledger = Ledger.of(store)
        self.seen = Seen()
        self.references = References(options.references)
        self.effort = Effort()

    def encode(self, items: Iterable[Item], reader: ContentReader | None) -> None:
        contents = fresh_contents(
            items,
            self.seen,
            self.ledger,
            reader=reader,
            references=self.references,
            threads=self.options.readers,
            retry_refused=self.options.retry_refused,
        )
        with (
            closing(contents),
            closing(prepared(contents, self.encoder, decode_workers=self.options.decode_workers)) as ready,
        ):
            self._encode(ready)
        self.references.save()
        self.tell()

    def _encode(self, ready: Iterator[Prepared]) -> None:
        while True:
            asked_at = time.perf_counter()
            first = next(ready, None)
            if first is None:
                break
            if self.effort.n_encoded:  # before that, there was nothing to keep it busy with
                self.effort.starved_s += time.perf_counter() - asked_at
            self.commit(
                encode_shard(
                    chain([first], islice(ready, self.options.shard_size - 1)),
                    self.encoder,
                    limits=self.options.limits or self.encoder.limits,
                    earlier=SameFeatures(self.ledger, self.store),
                    on_batch=self.batch_done,
                )
            )

    def commit(self, encoded: Encoded) -> None:
        self.store = self.store.append(encoded.shard)
        rows = encoded.shard.rows
        self.ledger.add(self.store, len(self.store.shards) - 1, rows.content_hashes, rows.features_hashes)
        self.references.save()
        self.effort.n_same += encoded.n_same
        self.effort.device_s += encoded.device_s
        self.effort.starved_s += encoded.starved_s

    def batch_done(self, n_contents: int) -> None:
        self.effort.n_encoded += n_contents
        self.tell()

    def tell(self) -> None:
        if self.on_progress:
            self.on_progress(EmbedProgress(len(self.seen), self.effort.n_encoded, self.effort.busy))

    def report(self) -> EmbedReport:
        space_id, compute = self.encoder.space.space_id, self.encoder.compute
        return report_on(self.seen, self.ledger, self.effort, space_id=space_id, compute=compute)


def report_on(
    seen: Seen,
    ledger: Ledger,
    effort: Effort,
    *,
    space_id: str,
    compute: str,
    unread: Mapping[bytes, tuple[str, str]] | None = None,
) -> EmbedReport:
    """What a job did, once all that it saw is in the ledger, or among the contents that its workers could not read."""
    why_not = {**ledger.refused, **(unread or {})}
    rejected: list[Rejected] = []
    hashes: dict[str, str] = {}
    for row, item_id in enumerate(seen.item_ids):
        content_hash = seen.content_hash(row)
        if row in seen.unreadable:
            rejected.append(seen.unreadable[row])
        elif content_hash is not None and content_hash in ledger.places:
            hashes[item_id] = content_hash.hex()
        elif content_hash is not None:
            reason, message = why_not[content_hash]
            rejected.append(Rejected(item_id, seen.references[row], reason, message))
    return EmbedReport(
        space_id=space_id,
        compute=compute,
        n_items=len(seen),
        n_absent=seen.n_absent,
        n_encoded=effort.n_encoded,
        n_reused=seen.n_reused,
        n_duplicates=seen.n_duplicates,
        n_same=effort.n_same,
        rejected=tuple(rejected),
        content_hashes=hashes,
        device_s=effort.device_s,
        busy=effort.busy,
    )


@contextmanager
def only_writer(store_dir: Path) -> Iterator[None]:
    """One job at a time in a store; the lock goes with the process, however it ends. Raises EnvironmentProblem."""
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
        stream = (store_dir / ".lock").open("w")
    except OSError as error:
        raise EnvironmentProblem(f"cannot write to {store_dir}: {error.strerror}") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EnvironmentProblem(f"another embedding job writes to {store_dir}: wait for it to end") from None
        remove_torn(store_dir)
        yield
        remove_torn(store_dir)  # of workers that were killed
