"""Servers as processes of their own on one core, and what the kernel says of them."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks._serving.world import ROOT

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
CPU_FIELDS = (11, 12, 13, 14)  # utime, stime, and those of children that ended; counted after the name
END_S = 20.0
POLL_S = 0.005


@dataclass(frozen=True)
class Cores:
    """The core of the server under test, and the one that its load (and Redis) runs on."""

    server: int
    client: int

    @staticmethod
    def of_this_machine() -> Cores:
        allowed = sorted(os.sched_getaffinity(0))
        return Cores(allowed[0], allowed[-1])


class Server:
    """A server under test; a context manager that ends what it started.

    Attributes:
        started_s: `time.monotonic()` of its start.
    """

    def __init__(self, name: str, command: Sequence[str], *, port: int, core: int, log: Path) -> None:
        self.name, self.port, self._log = name, port, log
        setpriv = shutil.which("setpriv")
        tied = [setpriv, "--pdeathsig", "TERM"] if setpriv else []  # it ends with us, even when we are killed
        self.started_s = time.monotonic()
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                [*tied, *command],
                cwd=ROOT,
                env=bare_environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, within_s: float) -> float:
        """Seconds from its start until `/readyz` says 200. Raises RuntimeError with its log when it does not."""
        give_up_at = time.monotonic() + within_s
        while time.monotonic() < give_up_at:
            if self._process.poll() is not None:
                break
            if get_status(self.port, "/readyz") == 200:
                return time.monotonic() - self.started_s
            time.sleep(POLL_S)
        raise RuntimeError(f"{self.name} does not become ready; its log ends: {self.log_tail()}")

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-1500:]

    def cpu_s(self) -> float:
        """CPU seconds of it and its children so far."""
        return sum(cpu_seconds(pid) for pid in family(self.pid))

    def rss_mib(self) -> float:
        """Resident memory of it and its children, shared pages counted in each."""
        return sum(_kib(pid, "VmRSS") for pid in family(self.pid)) / 1024

    def anonymous_mib(self) -> float:
        """The part of it that is no file's: without the pages of the mapped release, which come as they are read."""
        return sum(_kib(pid, "RssAnon") for pid in family(self.pid)) / 1024

    def n_descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family(self.pid))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def bare_environment() -> Mapping[str, str]:
    """Ours, without what would configure a service, and one thread for each numeric library. Compiled modules are kept
    after a first start, as they are where a service is installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get_status(port: int, path: str) -> int:
    """The status of a GET, 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                yield from family(int(child))
        except OSError:
            continue  # it ended meanwhile


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[at]) for at in CPU_FIELDS) / TICKS_A_SECOND


def _kib(pid: int, name: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")]
    return int(found[0]) if found else 0
