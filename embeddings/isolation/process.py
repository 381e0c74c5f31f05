"""One decode worker as its parent sees it: start it, send it contents, take its answers, end it.

A plain subprocess, not multiprocessing: that imports the parent's `__main__` again, wants a guard in scripts, and
refuses to run inside daemons. The worker gets the parent's `sys.path` and neither its threads nor its libraries.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.isolation.limits import MIB, DecodeLimits
from embeddings.isolation.worker import COUNTER, MAX_ANSWER_BYTES, REQUEST, Order
from embeddings.preprocess.features import Features
from embeddings.refused import REASONS, Reason, Refused
from recsys.errors import EnvironmentProblem

_KEPT_BYTES = MIB
"""Memory of a slot that stays for the next content; what a longer one took beyond it is given back."""

_ENDING_S = 1.0

# The variables are read when numpy's libraries are loaded; a pool of workers needs no pool of threads in each.
_BOOT = """\
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
order = json.loads(sys.argv[1])
sys.path[:] = order["path"]
from embeddings.isolation.worker import main
main(order)
"""


@dataclass(eq=False, slots=True)
class Ticket:
    """One content on its way.

    Attributes:
        content: kept until it is answered, so that it can be sent again.
        cpu_left_s: what it may still cost.
        weight_bytes: of the content, then of its features.
        answer: None until there is one.
        n_deaths: workers that ended while they decoded it.
        is_dropped: its consumer went away.
    """

    content: bytes
    cpu_left_s: float
    weight_bytes: int
    answer: Features | Refused | None = None
    n_deaths: int = 0
    is_dropped: bool = False


@dataclass(frozen=True)
class Ending:
    """How a worker ended.

    Attributes:
        culprit: what it was decoding.
        exit_code: minus the signal's number where one killed it; None where somebody else took the status.
        cpu_s: CPU seconds since its last answer.
        said: the last of what it wrote to stderr while it started.
    """

    culprit: Ticket | None
    exit_code: int | None
    cpu_s: float
    said: str


class WorkerProcess:
    """A worker, the channel to it, and its slots of shared memory. Used by one thread at a time.

    Attributes:
        waiting: slot and ticket of what it was sent and has not answered, in order.
        is_ready: it has started.
        has_ended: it closed its end of the channel.
        wants_to_retire: it holds memory that it cannot give back.
        failure: why it cannot work, in its own words.
    """

    def __init__(self, preprocessing: str, limits: DecodeLimits) -> None:
        """Returns before the worker is ready; contents can be sent at once.

        Raises:
            EnvironmentProblem: this machine gives no process, file descriptor or memory for it.
        """
        self.waiting: deque[tuple[int, Ticket]] = deque()
        self.is_ready = self.has_ended = self.wants_to_retire = False
        self.failure: str | None = None
        self._limits = limits
        self._owner_pid = os.getpid()
        self._cpu_total_s = 0.0
        self._n_answered = 0
        self._free_slots = list(range(limits.lookahead_items))
        self._heard_s = time.monotonic()
        try:
            self._start(preprocessing)
        except OSError as error:
            hint = "free memory, processes or open files, or use fewer workers"
            raise EnvironmentProblem(f"a decode worker cannot be started ({error}): {hint}") from error

    def _start(self, preprocessing: str) -> None:
        limits = self._limits
        self._counter_at = limits.lookahead_items * limits.content_bytes
        size = self._counter_at + mmap.PAGESIZE
        with ExitStack() as on_failure, ExitStack() as closed_here:
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            on_failure.callback(self.channel.close)
            closed_here.callback(theirs.close)
            memory_fd = os.memfd_create("decode-slots")
            closed_here.callback(os.close, memory_fd)
            self._said_fd = os.memfd_create("decode-stderr")
            on_failure.callback(os.close, self._said_fd)
            os.ftruncate(memory_fd, size)
            self._memory = mmap.mmap(memory_fd, size)
            on_failure.callback(self._memory.close)
            order: Order = {
                "path": _import_path(),
                "preprocessing": preprocessing,
                "parent_pid": os.getpid(),
                "channel_fd": theirs.fileno(),
                "memory_fd": memory_fd,
                "slot_bytes": limits.content_bytes,
                "counter_at": self._counter_at,
                "memory_bytes": limits.memory_bytes,
            }
            self._process = subprocess.Popen(
                [sys.executable, "-ISB" if sys.dont_write_bytecode else "-IS", "-c", _BOOT, json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said_fd,
                pass_fds=(theirs.fileno(), memory_fd),
            )
            on_failure.pop_all()
        self.channel.setblocking(False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_room(self) -> bool:
        return bool(self._free_slots) and not (self.has_ended or self.wants_to_retire)

    @property
    def deadline_s(self) -> float:
        """On the monotonic clock; infinite while nothing is expected of it."""
        if not self.is_ready:
            return self._heard_s + self._limits.start_s
        return self._heard_s + self._limits.wall_s if self.waiting else float("inf")

    def send(self, ticket: Ticket) -> bool:
        """Whether it was sent; a worker that has just died has not got it."""
        slot = self._free_slots.pop()
        start = slot * self._limits.content_bytes
        self._memory[start : start + len(ticket.content)] = ticket.content
        try:
            self.channel.send(REQUEST.pack(slot, len(ticket.content), ticket.cpu_left_s))
        except OSError:
            self.has_ended = True
            return False
        if not self.waiting:
            self._heard_s = time.monotonic()
        self.waiting.append((slot, ticket))
        return True

    def receive(self) -> Iterator[tuple[Ticket, Features | Refused, float]]:
        """What it has answered since the last call: ticket, result, and CPU seconds that it cost."""
        while not self.has_ended:
            try:
                message = self.channel.recv(MAX_ANSWER_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it died with requests unread; answers that it gave before come after this
            if not message:
                self.has_ended = True
                return
            self._heard_s = time.monotonic()
            said: dict[str, Any] = json.loads(message)
            if "failed" in said:
                self.failure = said["failed"]
                continue
            self._cpu_total_s = said["cpu_total_s"]
            if "ready" in said:
                self.is_ready = True
                continue
            self.wants_to_retire |= said["retire"]
            self._n_answered += 1
            slot, ticket = self.waiting.popleft()
            result = self._result(said, slot)
            longest = len(ticket.content) if isinstance(result, Refused) else max(len(ticket.content), result.nbytes)
            self._give_back(slot, longest)
            yield ticket, result, said["cpu_s"]

    def _result(self, said: dict[str, Any], slot: int) -> Features | Refused:
        if "reason" in said:
            reason: Reason = said["reason"] if said["reason"] in REASONS else "damaged"
            return Refused(reason, said["message"])
        dtype, shape = np.dtype(said["dtype"]), tuple(said["shape"])
        if dtype.kind not in "buif":  # an array of objects would be addresses of another process
            return Refused("decoder_died", f"the decoder gave an array of {dtype}")
        n_values = int(np.prod(shape, dtype=np.int64))
        there = np.frombuffer(self._memory, dtype, n_values, slot * self._limits.content_bytes)
        return there.reshape(shape).copy()

    def _give_back(self, slot: int, n_bytes: int) -> None:
        if n_bytes > _KEPT_BYTES:
            start = slot * self._limits.content_bytes + _KEPT_BYTES
            self._memory.madvise(mmap.MADV_REMOVE, start, self._limits.content_bytes - _KEPT_BYTES)
        self._free_slots.append(slot)

    def end(self) -> Ending:
        """End it if it still runs, wait until it is gone, and give back all it held."""
        exit_code, cpu_s = None, 0.0
        if os.getpid() == self._owner_pid:  # a fork of the parent has no claim on the process
            try:
                status, usage = self._gone()
            except ChildProcessError:
                pass  # somebody here reaps all children
            else:
                exit_code = os.waitstatus_to_exitcode(status)
                cpu_s = max(usage.ru_utime + usage.ru_stime - self._cpu_total_s, 0.0)
        self._process.returncode = exit_code or 0
        (n_begun,) = COUNTER.unpack_from(self._memory, self._counter_at)
        culprit = self.waiting[0][1] if self.waiting and n_begun > self._n_answered else None
        said = os.pread(self._said_fd, 10_000, 0)[-1000:].decode("utf-8", "replace").strip()
        os.close(self._said_fd)
        self.channel.close()
        self._memory.close()
        self.has_ended = True
        return Ending(culprit, exit_code, cpu_s, said)

    def _gone(self) -> tuple[int, resource.struct_rusage]:
        """Its wait status and what it used. One that has closed its channel gets time to end in its own way."""
        pid = self._process.pid
        patience_s = time.monotonic() + (_ENDING_S if self.has_ended else 0.0)
        while True:
            found, status, usage = os.wait4(pid, os.WNOHANG)
            if found:
                return status, usage
            if time.monotonic() >= patience_s:
                break
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        return status, usage


def _import_path() -> list[str]:
    """Where this process finds modules, and this package with certainty; no entry that means "wherever we are"."""
    root = str(Path(__file__).resolve().parents[2])
    path = [entry for entry in sys.path if entry and Path(entry).is_absolute()]
    return path if root in path else [*path, root]
