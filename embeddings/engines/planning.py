"""The plan of a job: what is new in the catalogue, cut into shards that workers take one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from embeddings.contents import Item, Seen, fresh_contents
from embeddings.embed import EmbedOptions
from embeddings.engines.todo import Planned, Todo
from embeddings.ledger import Ledger
from embeddings.reading import ContentReader
from embeddings.references import References
from embeddings.shards import ShardStore, committed, forget_shard, forget_shards_from, write_manifest
from embeddings.work import plan_of

LOOK_EVERY = 256
"""Contents between two looks at the workers."""


class Plan:
    """Walks the catalogue and writes the shards that are to be encoded; reads each new content once, for its hash.

    Attributes:
        n_contents: contents of each shard that this job has for its workers, by the shard's number, in order.
        n_planned: contents of all of them.
        n_shards: shards of the store when they are done.
    """

    def __init__(self, store: ShardStore, todo: Todo, options: EmbedOptions) -> None:
        self.store = store
        self.todo = todo
        self.options = options
        self.ledger = Ledger.of(store)
        self.seen = Seen()
        self.references = References(options.references)
        self.n_contents: dict[int, int] = {}
        self.n_planned = 0
        self.n_shards = len(store.shards)

    def walk(self, items: Iterable[Item], reader: ContentReader | None, *, attend: Callable[[], None]) -> None:
        """Plan all of it; `attend` is called every now and then.

        Raises:
            EnvironmentProblem: the disk is full or refuses.
        """
        contents = self._contents(items, reader, attend)
        while shard := list(islice(contents, self.options.shard_size)):
            self._add(shard)
            self.references.save()
            attend()
        self.references.save()
        forget_shards_from(self.store.directory, self.n_shards)
        if self.n_contents:
            self.todo.complete()

    @property
    def numbers(self) -> list[int]:
        """Shards that this job has for its workers, in order."""
        return list(self.n_contents)

    def _contents(
        self, items: Iterable[Item], reader: ContentReader | None, attend: Callable[[], None]
    ) -> Iterator[Planned]:
        contents = fresh_contents(
            items,
            self.seen,
            self.ledger,
            reader=reader,
            references=self.references,
            threads=self.options.readers,
            retry_refused=self.options.retry_refused,
            read_known=self.options.retry_refused,  # a stamp may be why it was refused as changed
        )
        for n, (candidate, content) in enumerate(contents, start=1):
            yield Planned(candidate, content if reader is None and isinstance(content, str) else None)
            if n % LOOK_EVERY == 0:
                attend()

    def _add(self, shard: list[Planned]) -> None:
        """Shards that a killed run committed out of order count, when they are of the same contents."""
        number = self.n_shards
        self.n_shards += 1
        if committed(self.store.directory, number, plan_of(each.candidate.content_hash for each in shard)):
            self.seen.n_reused += len(shard)
            return
        write_manifest(self.store.directory, self.store.space)
        forget_shard(self.store.directory, number)
        self.todo.write(number, shard)
        self.n_contents[number] = len(shard)
        self.n_planned += len(shard)
