"""`--engine processes`: one worker process for each device of this host."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from embeddings.engines.shard_done import ShardDone, error_of
from embeddings.engines.todo import MAX_TRIES
from embeddings.engines.worker_process import Line
from recsys.errors import EnvironmentProblem

COMMAND = (sys.executable, "-m", "embeddings.engines.worker_process")
LAST_WORDS_BYTES = 2000
ENDING_S = 10.0
"""A worker that has closed its stdout has this long to end in its own way."""


class Workers:
    """The workers of one job; a context manager that ends with none of them alive.

    A worker that dies is started again. What it was at is tried MAX_TRIES times in all, and then left.

    Attributes:
        left: shards that were left, and the last words of a worker that died there.
        n_restarts: workers that were started again.
    """

    def __init__(self, spec_path: Path, devices: Sequence[str], command: Sequence[str] = COMMAND) -> None:
        self._spec_path = spec_path
        self._devices = devices
        self._command = command
        self._said: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()
        self._alive: list[_Worker] = []
        self._last_words: dict[int, str] = {}
        self._deaths_in_a_row = 0
        self.left: dict[int, str] = {}
        self.n_restarts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._alive:
            worker.end()
        self._alive.clear()

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._alive]

    def start(self) -> None:
        for device in self._devices:
            self._alive.append(_Worker(self._command, self._spec_path, device, self._said))

    def done(self, timeout_s: float = 0.0) -> list[ShardDone]:
        """Shards committed since the last call; waits up to `timeout_s` for the first. Sees to those that died.

        Raises:
            EnvironmentProblem and others of `recsys.errors`: what a worker could not go on after.
        """
        done: list[ShardDone] = []
        wait_s = timeout_s
        while self._alive:
            try:
                worker, text = self._said.get(timeout=wait_s) if wait_s else self._said.get_nowait()
            except queue.Empty:
                break
            wait_s = 0.0
            if text is None:
                self._ended(worker)
            elif (each := self._heard(worker, text)) is not None:
                done.append(each)
        return done

    @property
    def all_ended(self) -> bool:
        return not self._alive

    def _heard(self, worker: _Worker, text: str) -> ShardDone | None:
        try:
            line = Line.model_validate_json(text)
        except ValidationError:
            return None  # torn by the death that comes next
        if line.event == "taken":
            worker.at.add(line.number)
        elif line.event == "left":
            self.left[line.number] = self._last_words.get(line.number, "")
        elif line.event == "failed":
            raise error_of(*line.error)
        elif line.event == "done":
            self._deaths_in_a_row = 0
            worker.at.discard(line.number)
            return ShardDone(line.number, line.n_encoded, line.n_same, line.device_s, line.starved_s)
        return None

    def _ended(self, worker: _Worker) -> None:
        self._alive.remove(worker)
        exit_code, words = worker.end(patience_s=ENDING_S)
        if exit_code == 0:
            return
        how = f"the worker on {worker.device} {_in_words(exit_code)}: {words}" if words else _in_words(exit_code)
        for number in worker.at:
            self._last_words[number] = how
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > (len(self._devices) + 1) * MAX_TRIES:
            raise EnvironmentProblem(f"workers end one after another without encoding anything; the last: {how}")
        self.n_restarts += 1
        self._alive.append(_Worker(self._command, self._spec_path, worker.device, self._said))


class _Worker:
    """One process, and the thread that listens to it.

    Attributes:
        at: shards that it has taken and not committed.
    """

    def __init__(
        self,
        command: Sequence[str],
        spec_path: Path,
        device: str,
        said: queue.Queue[tuple[_Worker, str | None]],
    ) -> None:
        """Raises EnvironmentProblem. The thread that calls this must outlive the process (see PR_SET_PDEATHSIG)."""
        self.device = device
        self.at: set[int] = set()
        arguments = [*command, str(spec_path), "--device", device, "--parent", str(os.getpid())]
        try:
            self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in end()
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._words, text=True
            )
        except OSError as error:
            raise EnvironmentProblem(f"a worker cannot be started ({error}): use fewer of them") from error
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def end(self, patience_s: float = 0.0) -> tuple[int, str]:
        """Kill it if it still runs then; its exit code, and the last of what it wrote to stderr."""
        try:
            exit_code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            exit_code = self.process.wait()
        if self._words.closed:
            return exit_code, ""
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(size - LAST_WORDS_BYTES, 0))
        words = self._words.read().decode("utf-8", "replace").strip()
        self._words.close()
        return exit_code, words

    def _listen(self, said: queue.Queue[tuple[_Worker, str | None]]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                said.put((self, line))
        said.put((self, None))


def _in_words(exit_code: int) -> str:
    if exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
