"""The pool in every kind of parent: scripts, children, parents full of torch, and parents that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_WORK = """\
import os, sys, threading, time
from embeddings.isolation import DecodeLimits, DecodePool
from tests.worlds.hostile_decoder import PREPROCESSING, use_hostile_decoder

class Patch:
    setattr = staticmethod(setattr)

use_hostile_decoder(Patch())
pool = DecodePool(PREPROCESSING, workers=2)
answers = [bytes(a) for _, a in pool.map((n, b"ok %d" % n) for n in range(20))]
assert answers == [b"ok %d" % n for n in range(20)], answers
"""
_REPORT = "print(*pool.worker_pids, flush=True)\n"
_TORCH = "import threading, torch; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"


def start(*command: str, stdin: str | None = None, folder: Path = ROOT) -> subprocess.Popen[str]:
    kind = None if stdin is None else subprocess.PIPE
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, stdin=kind, stdout=subprocess.PIPE, text=True
    )
    if stdin is not None:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
    return process


def worker_pids(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    return pids


def assert_gone(pids: list[int], within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < end_s, f"still running: {alive}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["script", "stdin", "-c"])
def test_a_program_without_a_main_guard_is_not_run_again(how: str, tmp_path: Path) -> None:
    code = 'print("once")\n' + _WORK + "pool.close()\n"
    if how == "script":
        (tmp_path / "script.py").write_text(code)
        process = start("script.py", folder=tmp_path)
    else:
        process = start("-", stdin=code) if how == "stdin" else start("-c", code)
    said, _ = process.communicate()
    assert (process.returncode, said) == (0, "once\n")


def test_a_program_that_forgets_to_close_the_pool_ends_and_takes_the_workers_along() -> None:
    process = start("-c", _WORK + _REPORT)
    pids = worker_pids(process)
    process.communicate()
    assert process.returncode == 0
    assert_gone(pids)


def test_workers_of_a_parent_with_torch_and_threads_have_neither_torch_nor_threads() -> None:
    process = start("-c", _WORK.replace("class Patch", _TORCH + "class Patch") + _REPORT + "time.sleep(600)")
    try:
        for pid in worker_pids(process):
            loaded = Path(f"/proc/{pid}/maps").read_text()
            assert "numpy" in loaded
            assert not [name for name in ("torch", "onnxruntime", "faiss", "pyarrow") if name in loaded]
            assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    finally:
        process.kill()
        process.communicate()


def test_preprocessing_imports_none_of_the_heavy_libraries() -> None:
    heavy = {
        "torch",
        "torchvision",
        "transformers",
        "onnxruntime",
        "faiss",
        "pyarrow",
        "ray",
        "fsspec",
        "multiprocessing",
    }
    code = f"import sys, embeddings.isolation.worker; print(*sorted({heavy!r} & set(sys.modules)))"
    said, _ = start("-c", code).communicate()
    assert said == "\n"


def test_a_forked_child_uses_a_pool_of_its_own_and_leaves_its_parents_alone() -> None:
    code = _WORK + (
        "child = os.fork()\n"
        "if child == 0:\n"
        "    pool.close()\n"
        "    with DecodePool(PREPROCESSING, workers=1) as own:\n"
        "        ok = [bytes(a) for _, a in own.map([(0, b'ok')])] == [b'ok']\n"
        "    os._exit(0 if ok else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert status == 0, status\n"
        "assert [bytes(a) for _, a in pool.map([(0, b'again')])] == [b'again']\n"
        "assert pool.statistics.n_workers_replaced == 0\n"
        "print(*pool.worker_pids, flush=True)\n"
        "pool.close()\n"
    )
    process = start("-c", code)
    assert_gone(worker_pids(process))
    assert process.wait() == 0


@pytest.mark.parametrize(
    "then",
    [
        "time.sleep(600)",
        "list(pool.map([(0, b'spin'), (1, b'spin')]))",
    ],
    ids=["idle", "busy in C"],
)
def test_workers_die_with_a_parent_that_is_killed(then: str) -> None:
    process = start("-c", _WORK + _REPORT + then)
    pids = worker_pids(process)
    time.sleep(0.2)
    assert all(is_running(pid) for pid in pids)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_gone(pids)
    assert process.stdout is not None
    process.stdout.close()


def test_workers_die_with_their_parent_though_a_fork_of_it_holds_their_channels_open() -> None:
    process = start(
        "-c", _WORK + "fork = os.fork()\nif fork: print(*pool.worker_pids, fork, flush=True)\ntime.sleep(60)"
    )
    assert process.stdout is not None
    *pids, fork = [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()
    assert_gone(pids)
    assert is_running(fork)
    os.kill(fork, signal.SIGKILL)
    process.stdout.close()


def test_children_that_somebody_else_reaps_are_no_harm() -> None:
    """Programs that ignore SIGCHLD never learn how their children ended."""
    ignore = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    code = (
        ignore
        + _WORK
        + (
            "answers = [a for _, a in pool.map(enumerate([b'segfault', b'ok']))]\n"
            "print(answers[0].reason, bytes(answers[1]).decode())\n"
            "pool.close()\n"
        )
    )
    said, _ = start("-c", code).communicate()
    assert said == "decoder_died ok\n"
