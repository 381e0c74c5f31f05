"""Encoder processes and their clients, for real."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recsys.errors import EncoderUnavailable
from serving.encoding.client import EncoderClient
from serving.telemetry import Telemetry
from tests.serving.asking import soon

ROOT = Path(__file__).resolve().parents[3]
MAX_BYTES = 5 << 20
Process = subprocess.Popen[bytes]
Start = Callable[..., Process]
Connect = Callable[..., EncoderClient]


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return folder / "socket"


@pytest.fixture
def start(socket: Path) -> Iterator[Start]:
    """Starts `python -m MODULE ... --socket SOCKET`, waits until it listens, and ends it with the test."""
    with ExitStack() as stack:

        def started(*command: str) -> Process:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            full = [sys.executable, "-m", *command, "--socket", str(socket)]
            process = subprocess.Popen(full, cwd=ROOT, env=environment, stdin=subprocess.PIPE)
            stack.callback(_end, process)
            soon(lambda: socket.exists() or process.poll() is not None, within_s=30)
            assert process.poll() is None
            return process

        yield started


def _end(process: Process) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.fixture
def connect(socket: Path) -> Iterator[Connect]:
    """A client of that process, closed with the test."""
    with ExitStack() as stack:

        def connected(telemetry: Telemetry | None = None, cached_texts: int = 0) -> EncoderClient:
            client = EncoderClient(socket, telemetry or Telemetry(), cached_texts=cached_texts, max_bytes=MAX_BYTES)
            stack.callback(client.close)
            return client

        yield connected


def answers(client: EncoderClient) -> bool:
    try:
        client.status(1.0)
    except EncoderUnavailable:
        return False
    return True


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
