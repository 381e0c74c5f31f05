"""Jobs in processes that can be killed -9 anywhere, without the ten seconds that importing torch takes.

A parent (`python -m tests.integration.killing`) imports everything once and stays as it is: each job runs in a fork
of it. It reads one order a line and answers each with one line:

    {"job": "train", "root": "/tmp/w", "kill_at_step": 17}      at its 17th change to the files of the workspace
    {"job": "train", "root": "/tmp/w", "kill_after_s": 0.61}    by the clock, wherever it is then
    {"killed": true, "seconds": 0.6, "steps": null, "result": null}
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STEPS = frozenset({"open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"})
JOBS = ("validate", "embed", "train", "release", "export", "refresh")
TOO_LONG_S = 120
IMPORTED_LATE = (
    "jobs.refresh",
    "torch.onnx._internal.torchscript_exporter.utils",
    "torch.utils.tensorboard",
    "torchrec.distributed.planner.shard_estimators",
)


@dataclass(frozen=True)
class Order:
    """What to run and when to kill it; it runs to its end where neither is given."""

    job: str
    root: str
    kill_at_step: int | None = None
    kill_after_s: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        steps: changes to the file system that Python made; None when it was killed.
        result: what the job returned, JSON values and exit code; None when it was killed.
    """

    killed: bool
    seconds: float
    steps: int | None = None
    result: Any = None


class Jobs:
    """The parent process, seen from a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, order: Order) -> Ended:
        """Raises AssertionError with its output when the job fails by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "failed" not in answer, f"{order}: {answer['failed']}"
        return Ended(**answer)


@contextmanager
def forked_jobs() -> Iterator[Jobs]:
    """The parent, for the time of the block. One thread everywhere, so that sums are added in one order."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.killing"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Jobs(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def serve() -> None:
    """Import everything, then fork for each order."""
    for module in IMPORTED_LATE:
        importlib.import_module(module)
    # Nothing may compute here: threads of a pool would be missing in the forks. Those that pyarrow's allocator and
    # onnxruntime start when imported sleep, and hold no lock that a fork would need.
    for line in sys.stdin:
        print(json.dumps(_forked(Order(**json.loads(line)))), flush=True)


def _forked(order: Order) -> dict[str, Any]:
    started = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(order, writer)
    os.close(writer)
    if order.kill_after_s is not None:
        time.sleep(order.kill_after_s)
        os.kill(child, signal.SIGKILL)  # it is not waited for yet, so the number is still its own
    with os.fdopen(reader) as answer:
        said = answer.read()
    status = os.waitpid(child, 0)[1]
    seconds = time.monotonic() - started
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return asdict(Ended(killed=True, seconds=seconds))
    if status != 0 or not said:
        return {"failed": f"status {status}\n{_log(order).read_text(errors='replace')[-4000:]}"}
    return asdict(Ended(killed=False, seconds=seconds, **json.loads(said)))


def _log(order: Order) -> Path:
    return Path(order.root).with_suffix(".log")


def _in_child(order: Order, writer: int) -> None:
    """Run one job, say how it went through the pipe, and end."""
    signal.alarm(TOO_LONG_S)
    log = os.open(_log(order), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    steps = Steps(order.root, order.kill_at_step)
    try:
        sys.addaudithook(steps)
        result = job_of(order.job)(Path(order.root))
        os.write(writer, json.dumps({"steps": steps.n_done, "result": result}).encode())
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


class Steps:
    """An audit hook that counts changes to the files below `root`, and ends the process at one of them."""

    def __init__(self, root: str, kill_at: int | None) -> None:
        self._root, self._kill_at = root, kill_at
        self.n_done = 0

    def __call__(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name in STEPS and arguments and str(arguments[0]).startswith(self._root):
            self.n_done += 1
            if self.n_done == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def job_of(name: str) -> Callable[[Path], Any]:
    """The job as its command line runs it, at the time of the test world."""
    from jobs.embed import embed_job
    from jobs.events import export_job
    from jobs.refresh import refresh_job
    from jobs.release import build_job
    from jobs.train import train_job
    from jobs.validate import validate_job
    from recsys.workspace import Workspace
    from tests.worlds.workspaces import NOW

    jobs: dict[str, Callable[[Workspace], Any]] = {
        "validate": lambda workspace: validate_job(workspace, now=NOW),
        "embed": embed_job,
        "train": train_job,
        "release": lambda workspace: build_job(workspace, now=NOW, publish=True),
        "export": export_job,
        "refresh": lambda workspace: refresh_job(workspace, now=NOW),
    }
    return lambda root: jobs[name](Workspace.open(root))


if __name__ == "__main__":
    serve()
