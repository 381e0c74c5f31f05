"""Whoever keeps the encoder process: it comes back when it dies, and goes when its parent does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.encoding.supervisor import EncoderProcess, encoder_beside
from tests.serving.asking import soon
from tests.serving.encoding.conftest import ROOT

WAIT_S = 30.0


def writes_its_pid(folder: Path, then: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        f"import os, sys, pathlib; pathlib.Path({str(folder)!r}, str(os.getpid())).touch()\n{then}",
    ]


def pids(folder: Path) -> list[int]:
    return sorted((int(path.name) for path in folder.iterdir()), key=lambda pid: (folder / str(pid)).stat().st_mtime_ns)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_process_that_is_killed_is_started_again_and_ends_when_it_is_stopped(tmp_path: Path) -> None:
    process = EncoderProcess(writes_its_pid(tmp_path, "sys.stdin.read()"), lambda: True)
    process.start()
    soon(lambda: len(pids(tmp_path)) == 1, within_s=WAIT_S)
    os.kill(pids(tmp_path)[0], signal.SIGKILL)
    soon(lambda: len(pids(tmp_path)) == 2, within_s=WAIT_S)
    assert is_running(pids(tmp_path)[1])
    process.stop()
    assert not is_running(pids(tmp_path)[1])
    assert len(pids(tmp_path)) == 2


def test_one_that_ends_at_once_is_not_started_over_and_over(tmp_path: Path) -> None:
    process = EncoderProcess(writes_its_pid(tmp_path, "sys.exit(2)"), lambda: True)
    process.start()
    soon(lambda: len(pids(tmp_path)) >= 2, within_s=WAIT_S)
    process.stop()
    assert len(pids(tmp_path)) <= 3


def test_nothing_is_started_until_it_is_wanted(tmp_path: Path) -> None:
    wanted: list[bool] = []
    process = EncoderProcess(writes_its_pid(tmp_path, "sys.stdin.read()"), lambda: bool(wanted))
    process.start()
    assert pids(tmp_path) == []
    wanted.append(True)
    soon(lambda: len(pids(tmp_path)) == 1, within_s=WAIT_S)
    process.stop()


def test_without_a_socket_nothing_is_started(tmp_path: Path) -> None:
    with encoder_beside(tmp_path, None, lambda: pytest.fail("it was asked")):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_dies_with_its_parent_and_leaves_no_folder(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "recsys.toml").touch()
    run = tmp_path / "run"
    run.mkdir()
    code = (
        "import pathlib, time\n"
        "from serving.encoding.supervisor import encoder_beside\n"
        f"with encoder_beside(pathlib.Path({str(tmp_path)!r}), pathlib.Path({str(run / 'socket')!r}), lambda: True):\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    soon((run / "socket").exists, within_s=WAIT_S)
    (child,) = _children(parent.pid)
    assert is_running(child)
    parent.send_signal(how)
    parent.wait()
    soon(lambda: not is_running(child) and not run.exists(), within_s=WAIT_S)


def _children(pid: int) -> list[int]:
    """Of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
