"""One worker of the `processes` engine: `python -m embeddings.engines.worker_process <todo/spec.json>`.

The job starts one for each device. More may be started by hand, also on other hosts that see the same folder, while
the job runs: they take shards by lease like the rest, and end when the plan is done or the job is gone.
It writes one JSON line for each shard to stdout; whatever else prints goes to stderr.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

from embeddings.engines.leases import Leases
from embeddings.engines.spec import WorkerSpec, parse_spec
from embeddings.engines.todo import Lease, Todo
from recsys.config import Config
from recsys.errors import ConfigError, RecsysError

PR_SET_PDEATHSIG = 1


class Line(Config):
    """What a worker says.

    Attributes:
        event: `ready`; `taken` and `done` (a shard); `left` (a shard at which too many workers died); `failed`.
        error: `failed`: the error's class in `recsys.errors`, and its message.
    """

    event: Literal["ready", "taken", "done", "left", "failed"]
    number: int = -1
    n_encoded: int = 0
    n_same: int = 0
    device_s: float = 0.0
    starved_s: float = 0.0
    error: tuple[str, str] = ("", "")


class _ToldLeases(Leases):
    """Leases that the parent is told of, so that it knows at which shard a worker died."""

    say: Callable[[Line], None]

    def _opened(self, lease: Lease) -> Lease:
        self.say(Line(event="taken", number=lease.number))
        return super()._opened(lease)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embeddings.engines.worker_process", description=__doc__)
    parser.add_argument("spec", type=Path, help="spec.json in the folder todo of the store")
    parser.add_argument("--device", help="as cuda:1; the job's own device where it is not given")
    parser.add_argument("--parent", type=int, help="process that this one must not outlive")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        _die_with_parent(options.parent)
    out, mutex = _own_stdout(), threading.Lock()

    def say(line: Line) -> None:
        with mutex:  # leases are taken in another thread
            print(line.model_dump_json(exclude_defaults=True), file=out, flush=True)

    try:
        spec = _read_spec(options.spec)
        if options.device:
            spec = spec.model_copy(update={"device": options.device})
        _work(spec, say, _same_parent(options.parent) if options.parent else _job_runs(spec.store_dir))
    except RecsysError as error:
        say(Line(event="failed", error=(type(error).__name__, str(error))))
        return error.exit_code
    return 0


def _work(spec: WorkerSpec, say: Callable[[Line], None], is_wanted: Callable[[], bool]) -> None:
    from embeddings.engines.shard_worker import ShardWorker  # after the parent is sure to be watched

    leases = _ToldLeases(Todo(spec.store_dir), is_wanted=is_wanted)
    leases.say = say
    with ShardWorker(spec) as worker:
        say(Line(event="ready"))
        for done in worker.run(leases):
            say(
                Line(
                    event="done",
                    number=done.number,
                    n_encoded=done.n_encoded,
                    n_same=done.n_same,
                    device_s=done.device_s,
                    starved_s=done.starved_s,
                )
            )
    for number in leases.left:
        say(Line(event="left", number=number))


def _read_spec(path: Path) -> WorkerSpec:
    try:
        return parse_spec(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): start workers while the job runs") from None


def _die_with_parent(parent: int) -> None:
    """Linux ends this process when the one that started it ends, however that happens."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be watched
        os._exit(1)


def _same_parent(parent: int) -> Callable[[], bool]:
    return lambda: os.getppid() == parent


def _job_runs(store_dir: Path) -> Callable[[], bool]:
    """A job holds the lock of its store."""

    def is_locked() -> bool:
        try:
            with (store_dir / ".lock").open("r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    return is_locked


def _own_stdout() -> TextIO:
    """Stdout for our lines alone: what libraries print goes to stderr."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sys.stdout.flush()
    os.dup2(2, 1)
    return own


if __name__ == "__main__":
    sys.exit(main())
