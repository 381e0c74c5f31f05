"""An embedding job by many workers, in one function: plan, encode, look at what is committed, report.

What it costs beside `--engine local`: each new content is read twice, once for the plan (by this process, for its
hash) and once by the worker that encodes it; fetched URLs come from the workspace's cache the second time. Two
contents of other bytes that look alike to the encoder share a vector within a shard, not across shards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from embeddings.contents import Item
from embeddings.embed import (
    Effort,
    EmbedOptions,
    EmbedProgress,
    EmbedReport,
    OnProgress,
    only_writer,
    report_on,
)
from embeddings.engines.planning import Plan
from embeddings.engines.processes import COMMAND, Workers
from embeddings.engines.shard_done import ShardDone
from embeddings.engines.spec import WorkerSpec
from embeddings.engines.todo import MAX_TRIES, Todo
from embeddings.reading import ContentReader
from embeddings.shards import ShardStore, write_atomically
from embeddings.stored import write_items
from recsys.config import Config
from recsys.errors import ConfigError, EnvironmentProblem

_WAIT_S = 0.5


class EngineConfig(Config):
    """Who encodes.

    Attributes:
        kind: processes of this host, or actors of a Ray cluster.
        workers: how many; `processes` with `devices` has one for each of those.
        devices: of `processes`, as `cuda:0`; where none are named, all workers use the spec's device.
        cpus_per_worker: of `ray`: what an actor reserves.
        gpus_per_worker: of `ray`; a fraction lets several share one.
        ray_address: None starts a cluster on this host; `auto` finds the one that runs here; else as `ray://head:10001`.
        command: of `processes`: what starts a worker.
    """

    kind: Literal["processes", "ray"]
    workers: int = 2
    devices: tuple[str, ...] = ()
    cpus_per_worker: float = 1.0
    gpus_per_worker: float = 0.0
    ray_address: str | None = None
    command: tuple[str, ...] = COMMAND


def embed_with_engine(
    items: Iterable[Item],
    spec: WorkerSpec,
    engine: EngineConfig,
    *,
    reader: ContentReader | None = None,
    options: EmbedOptions | None = None,
    on_progress: OnProgress | None = None,
) -> EmbedReport:
    """`embeddings.embed.embed_items` by many workers: the same store, the same report.

    Args:
        spec: what each worker is told; `options.limits` replaces its limits where they are given.
        reader: reads for the plan what the workers will read with their own.
        options: `decode_workers` is not used here: the spec says it for each worker.

    Raises:
        as `embed_items`; also
        ConfigError: an option that does not fit the engine.
        EnvironmentProblem: Ray is missing or its cluster cannot be reached; MAX_TRIES workers died at one shard (the
            others are committed by then).
    """
    if engine.workers < 1:
        raise ConfigError(f"an engine needs at least one worker, not {engine.workers}")
    options = options or EmbedOptions()
    if options.limits is not None:
        spec = spec.model_copy(update={"limits": options.limits})
    with only_writer(spec.store_dir):
        todo = Todo(spec.store_dir)
        todo.remove()
        run = _Run(Plan(ShardStore.open(spec.store_dir, spec.space), todo, options), on_progress)
        try:
            if engine.kind == "processes":
                run.by_processes(items, reader, spec, engine)
            else:
                run.by_ray(items, reader, spec, engine)
        finally:
            todo.remove()
        report = run.report(spec)
        write_items(spec.store_dir, report.content_hashes)
        run.plan.references.finish()
    return report


class _Run:
    """One run of the job, as the process that plans it sees it."""

    def __init__(self, plan: Plan, on_progress: OnProgress | None) -> None:
        self.plan = plan
        self.on_progress = on_progress
        self.effort = Effort()
        self.told: set[int] = set()
        self.n_done = 0
        self.left: dict[int, str] = {}

    def by_processes(
        self, items: Iterable[Item], reader: ContentReader | None, spec: WorkerSpec, engine: EngineConfig
    ) -> None:
        """They encode what is planned while the rest is being planned."""
        spec_path = self.plan.todo.folder / "spec.json"
        devices = engine.devices or (spec.device,) * engine.workers
        with Workers(spec_path, devices, engine.command) as workers:

            def attend() -> None:
                if self.plan.n_contents and not spec_path.exists():
                    write_atomically(spec_path, spec.model_dump_json().encode())
                    workers.start()
                self.take(workers.done())

            self.plan.walk(items, reader, attend=attend)
            while not workers.all_ended:
                self.take(workers.done(_WAIT_S))
            self.left = workers.left

    def by_ray(
        self, items: Iterable[Item], reader: ContentReader | None, spec: WorkerSpec, engine: EngineConfig
    ) -> None:
        """All is planned first: Ray Data wants to know its input."""
        from embeddings.engines import ray_engine

        ray_engine.require(spec, engine.gpus_per_worker)
        self.plan.walk(items, reader, attend=self.tell)
        if not self.plan.n_contents:
            return
        n_cpus, n_gpus = engine.workers * engine.cpus_per_worker, engine.workers * engine.gpus_per_worker
        with ray_engine.cluster(engine.ray_address, n_cpus=n_cpus, n_gpus=n_gpus):
            done = ray_engine.encode(
                spec,
                self.plan.numbers,
                workers=engine.workers,
                cpus_per_worker=engine.cpus_per_worker,
                gpus_per_worker=engine.gpus_per_worker,
            )
            for each in done:
                if isinstance(each, ShardDone):
                    self.take([each])
                else:
                    self.left[each.number] = "see the logs of Ray's workers"

    def take(self, done: list[ShardDone]) -> None:
        for each in done:
            self.told.add(each.number)
            self.n_done += self.plan.n_contents.get(each.number, 0)
            self.effort.n_encoded += each.n_encoded
            self.effort.n_same += each.n_same
            self.effort.device_s += each.device_s
            self.effort.starved_s += each.starved_s
        self.tell()

    def tell(self) -> None:
        """Items whose content waits for a worker are not counted as seen: the plan runs far ahead."""
        if self.on_progress:
            n_seen = len(self.plan.seen) - (self.plan.n_planned - self.n_done)
            self.on_progress(EmbedProgress(n_seen, self.effort.n_encoded, self.effort.busy))

    def report(self, spec: WorkerSpec) -> EmbedReport:
        """Raises EnvironmentProblem where a shard of the plan is not committed."""
        first = len(self.plan.store.shards)
        store = ShardStore.open(spec.store_dir, spec.space)
        self._require_all(store)
        for number in range(first, self.plan.n_shards):
            self.plan.ledger.add(store, number, *store.hashes(number))
        for number in set(self.plan.n_contents) - self.told:  # committed by a worker that died before it could tell
            self.take([ShardDone(number, store.shards[number].n_rows, 0, 0.0, 0.0)])
        computes = {marker.compute for marker in store.shards[first:] or store.shards[-1:]}
        return report_on(
            self.plan.seen,
            self.plan.ledger,
            self.effort,
            space_id=spec.space.space_id,
            compute=" + ".join(sorted(computes)),
            unread={bytes.fromhex(each): why for marker in store.shards[first:] for each, why in marker.unread.items()},
        )

    def _require_all(self, store: ShardStore) -> None:
        missing = [number for number in self.plan.n_contents if number >= len(store.shards)]
        if self.left:
            names = ", ".join(f"shard {number} ({words})" for number, words in sorted(self.left.items()))
            raise EnvironmentProblem(
                f"{MAX_TRIES} workers died one after another at each of: {names}. All other shards are committed; "
                "give the workers more memory or a smaller batch, and run the same command again"
            )
        if missing:
            raise EnvironmentProblem(f"{len(missing)} shards are not committed: run the same command again")
