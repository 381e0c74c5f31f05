"""What a Ray actor runs: shards by their numbers, one worker for all of them. Needs no Ray to be imported."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.engines.leases import Leases
from embeddings.engines.shard_done import ShardDone
from embeddings.engines.shard_worker import ShardWorker
from embeddings.engines.spec import parse_spec
from embeddings.engines.todo import Todo
from recsys.errors import RecsysError

Columns = dict[str, NDArray[Any]]


class ShardActor:
    """A callable class for `ray.data.Dataset.map_batches`: column `number` → one row for each, in order.

    Ray calls it again when the actor died on the way, so the rows may depend on nothing but the numbers: their count
    does not.

        event        `done`; `before` (committed by an earlier try); `left` (too many workers died there); `failed`
        n_encoded, n_same, device_s, starved_s     of ShardDone
        error_kind, error                          `failed`: class in `recsys.errors`, message
    """

    def __init__(self, spec: str) -> None:
        self._spec = parse_spec(spec)
        self._worker: ShardWorker | None = None  # loaded by the first call, whose errors reach the job in words

    def __call__(self, batch: Columns) -> Columns:
        numbers = [int(number) for number in batch["number"]]
        try:
            if self._worker is None:
                self._worker = ShardWorker(self._spec)
            leases = Leases(Todo(self._spec.store_dir), numbers=frozenset(numbers))
            done = {each.number: each for each in self._worker.run(leases)}
        except RecsysError as error:
            return _columns([_row(number, "failed", error=error) for number in numbers])
        left = set(leases.left)
        return _columns([_row(number, "left" if number in left else "before", done.get(number)) for number in numbers])


def _row(number: int, event: str, done: ShardDone | None = None, error: RecsysError | None = None) -> dict[str, Any]:
    return {
        "number": number,
        "event": "done" if done else event,
        "n_encoded": done.n_encoded if done else 0,
        "n_same": done.n_same if done else 0,
        "device_s": done.device_s if done else 0.0,
        "starved_s": done.starved_s if done else 0.0,
        "error_kind": type(error).__name__ if error else "",
        "error": str(error) if error else "",
    }


def _columns(rows: list[dict[str, Any]]) -> Columns:
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
