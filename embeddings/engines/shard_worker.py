"""What every engine's workers run: lease → read → prepare → encode → shard → marker.

The next shard is read and decoded while the device computes this one, so that it does not wait between shards; a
worker that is killed loses the one it was encoding.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from embeddings.contents import Candidate
from embeddings.engines.ahead import Ahead
from embeddings.engines.leases import Leases
from embeddings.engines.shard_done import ShardDone
from embeddings.engines.spec import WorkerSpec, load_encoder, open_contents
from embeddings.engines.todo import Lease, Planned
from embeddings.isolation import DecodePool, limits_of
from embeddings.prepare import Prepared, prepared
from embeddings.preprocess.features import Content
from embeddings.refused import Refused
from embeddings.shards import ShardMarker, committed, write_shard
from embeddings.work import encode_shard, plan_of


@dataclass(frozen=True)
class _Opened:
    """A shard that was taken; with its marker where a worker died between that and the end of its lease."""

    lease: Lease
    marker: ShardMarker | None


class ShardWorker:
    """An encoder, a reader and decode processes, loaded once; a context manager."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Raises as `load_encoder` does."""
        self.spec = spec
        self.encoder = load_encoder(spec)
        self._reader = open_contents(spec)
        self._open = ExitStack()
        self._threads = ThreadPoolExecutor(spec.readers, thread_name_prefix="read")
        self._open.callback(self._threads.shutdown, cancel_futures=True)
        if self._reader is not None:
            self._open.callback(self._reader.close)
        self._n_ahead = limits_of(spec.space.preprocessing).ahead_items
        self._pool: DecodePool | None = None
        if spec.modality != "text" and spec.decode_workers > 0:
            self._pool = DecodePool(spec.space.preprocessing, workers=spec.decode_workers)
            self._open.enter_context(self._pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(self, leases: Leases) -> Iterator[ShardDone]:
        """Encode and commit the shard of each lease, in order; leases are taken ahead.

        Raises:
            EnvironmentProblem: the disk is full or refuses.
        """
        with Ahead(self._ready(leases), self._n_ahead) as ready, ExitStack() as first:
            first.callback(leases.stop)  # before the thread that takes them is waited for
            stream = iter(ready)
            for opened in stream:
                assert isinstance(opened, _Opened)
                done = self._done(opened, _until_end(stream))
                leases.closed()
                if done is not None:
                    yield done

    def _done(self, opened: _Opened, contents: Iterable[Prepared]) -> ShardDone | None:
        """None when the job that wanted it is gone."""
        lease, marker = opened.lease, opened.marker
        if marker is not None:
            deque(contents, maxlen=0)
            lease.finish()
            return ShardDone(lease.number, marker.n_rows, 0, 0.0, 0.0)
        encoded = encode_shard(contents, self.encoder, limits=self.spec.limits or self.encoder.limits)
        if not lease.is_current:
            lease.close()
            return None
        write_shard(self.spec.store_dir, lease.number, self.spec.space, encoded.shard)
        lease.finish()
        return ShardDone(lease.number, encoded.n_encoded, encoded.n_same, encoded.device_s, encoded.starved_s)

    def _ready(self, leases: Iterable[Lease]) -> Iterator[_Opened | Prepared | None]:
        """Each shard, its prepared contents, and None for its end."""
        for lease in leases:
            planned = lease.contents()
            plan = plan_of(each.candidate.content_hash for each in planned)
            marker = committed(self.spec.store_dir, lease.number, plan)
            yield _Opened(lease, marker)
            if marker is None:
                yield from with_refused(self._read(planned), self._prepare)
            yield None

    def _prepare(self, contents: Iterator[tuple[Candidate, Content]]) -> Iterator[Prepared]:
        if self._pool is None:
            return prepared(contents, self.encoder, decode_workers=0)
        return self._pool.map((candidate, content) for candidate, content in contents if isinstance(content, bytes))

    def _read(self, planned: list[Planned]) -> Iterator[tuple[Candidate, Content | Refused]]:
        ahead: deque[tuple[Candidate, Future[Content | Refused]]] = deque()
        for each in planned:
            ahead.append((each.candidate, self._threads.submit(self._content, each)))
            if len(ahead) >= 2 * self.spec.readers:
                candidate, content = ahead.popleft()
                yield candidate, content.result()
        for candidate, content in ahead:
            yield candidate, content.result()

    def _content(self, planned: Planned) -> Content | Refused:
        """What was planned, and nothing else: a content that is not the one planned would get a wrong name."""
        if planned.text is not None:
            return planned.text
        reference = planned.candidate.reference
        assert self._reader is not None, "a plan of references needs a reader"
        try:
            content = self._reader.read(reference)
        except Refused as refused:
            return refused
        except OSError as error:
            return Refused("not_readable", f"{reference} cannot be read: {error}")
        if hashlib.sha256(content).digest() != planned.candidate.content_hash:
            return Refused("changed", f"{reference} changed while the job ran: run the same command again")
        return content


def with_refused(
    contents: Iterable[tuple[Candidate, Content | Refused]],
    prepare: Callable[[Iterator[tuple[Candidate, Content]]], Iterator[Prepared]],
) -> Iterator[Prepared]:
    """What `prepare` makes of the contents, with those refused before it in their places."""
    order: deque[Prepared | None] = deque()

    def good() -> Iterator[tuple[Candidate, Content]]:
        for candidate, content in contents:
            if isinstance(content, Refused):
                order.append((candidate, content))
            else:
                order.append(None)
                yield candidate, content

    for done in prepare(good()):
        while (refused := order.popleft()) is not None:
            yield refused
        yield done
    yield from (refused for refused in order if refused is not None)


def _until_end(stream: Iterator[_Opened | Prepared | None]) -> Iterator[Prepared]:
    for each in stream:
        if each is None:
            return
        assert not isinstance(each, _Opened)
        yield each
