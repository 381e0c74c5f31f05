"""`--engine ray`: the shards as a Ray Data set, encoded by a pool of actors on whatever machines the cluster has.

An actor that dies is started again and its shards are tried again (Ray Data's defaults: without end); what ends that
is the count of tries beside each shard's plan. The store and the pictures must lie where every node finds them.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import cast
from urllib.parse import urlsplit

from embeddings.engines.ray_actor import Columns, ShardActor
from embeddings.engines.shard_done import ShardDone, error_of
from embeddings.engines.spec import WorkerSpec
from recsys.errors import ConfigError, EnvironmentProblem

MAX_SHARDS_A_TASK = 8
"""Within a task a worker reads the next shard while it encodes this one."""

TASKS_A_WORKER = 4
OBJECT_STORE_BYTES = 128 * 2**20
"""Of a cluster that this job starts: only numbers travel through it."""


CLIENT_PORT = 10001
ANSWER_S = 10.0


@dataclass(frozen=True)
class Left:
    """A shard at which too many workers died."""

    number: int


def require(spec: WorkerSpec, gpus_per_worker: float) -> None:
    """Raises EnvironmentProblem: Ray is not installed. ConfigError: the workers would see no GPU, or the wrong one."""
    if find_spec("ray") is None:
        raise EnvironmentProblem("--engine ray needs Ray: install requirements/cluster.txt on every machine")
    if spec.device.startswith("cuda:"):
        raise ConfigError(f"Ray chooses each worker's GPU: write the device as cuda, not {spec.device}")
    if spec.device == "cuda" and not gpus_per_worker:
        raise ConfigError("Ray hides the GPUs from workers that reserve none: add --gpus-per-worker 1")


@contextmanager
def cluster(address: str | None, *, n_cpus: float, n_gpus: float) -> Iterator[None]:
    """Connected to the cluster at `address`, or to one of this host that ends here. One that is connected stays so.

    Args:
        n_cpus, n_gpus: what the workers reserve; a cluster of this host is started with as many CPUs.

    Raises:
        EnvironmentProblem: it cannot be reached, or has no room for the workers.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    _require_answer(address)
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else math.ceil(n_cpus),
            object_store_memory=None if address else OBJECT_STORE_BYTES,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if address is None:
            raise EnvironmentProblem(f"Ray cannot be started on this host ({error}): look into /tmp/ray") from error
        hint = "start one with `ray start --head`; where it wants a token, set RAY_AUTH_MODE=token and bring its file"
        raise EnvironmentProblem(f"no Ray cluster at {address} ({error}): {hint}") from error
    try:
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if address is None and there.get("GPU", 0.0) < n_gpus:
            raise EnvironmentProblem(f"the workers want {n_gpus:g} GPUs, and this host has fewer: use fewer workers")
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Ray itself waits for minutes where nobody answers."""
    parts = urlsplit(address if address and "://" in address else f"//{address or ''}")
    if parts.hostname is None or (parts.port is None and not parts.scheme):  # `auto`, or a cluster of this host
        return
    try:
        socket.create_connection((parts.hostname, parts.port or CLIENT_PORT), timeout=ANSWER_S).close()
    except OSError as error:
        raise EnvironmentProblem(f"no Ray cluster at {address} ({error}): start one with `ray start --head`") from None


def encode(
    spec: WorkerSpec, numbers: Sequence[int], *, workers: int, cpus_per_worker: float, gpus_per_worker: float
) -> Iterator[ShardDone | Left]:
    """Encode the planned shards; gives each as soon as Ray hands its task's result over.

    Raises:
        EnvironmentProblem and others of `recsys.errors`: what a worker could not go on after; Ray itself failed.
    """
    import ray
    import ray.data
    from ray.data.exceptions import ExecutionTimeoutError, SystemException

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    a_task = max(1, min(MAX_SHARDS_A_TASK, len(numbers) // (workers * TASKS_A_WORKER)))
    done = ray.data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=-(-len(numbers) // a_task)
    ).map_batches(
        ShardActor,
        batch_size=a_task,
        batch_format="numpy",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        fn_constructor_kwargs={"spec": spec.model_dump_json()},
        num_cpus=cpus_per_worker,
        num_gpus=gpus_per_worker,
    )
    try:
        for batch in done.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield from _told(cast(Columns, batch))
    except (ray.exceptions.RayError, SystemException, ExecutionTimeoutError) as error:
        raise EnvironmentProblem(f"Ray gave up: {error}; run the same command again") from error


def _told(batch: Columns) -> Iterator[ShardDone | Left]:
    """What the rows of `ShardActor` say. Raises the error that one of them names."""
    columns = {name: column.tolist() for name, column in batch.items()}
    for at, event in enumerate(columns["event"]):
        if event == "failed":
            raise error_of(columns["error_kind"][at], columns["error"][at])
        if event == "left":
            yield Left(columns["number"][at])
        elif event == "done":
            yield ShardDone(*(columns[field.name][at] for field in fields(ShardDone)))
