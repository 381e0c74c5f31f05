"""The service as users run it: a process of its own on a real port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.pages import MAX_ITEMS_IN_URL, Page, PageTokens, asked_digest
from serving.settings import TOKEN_FILE
from tests.serving.asking import event, soon


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "recsys.toml").write_text("[serving]\nlive_poll_s = 0.1\nrelease_poll_s = 0.1\n")
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(workspace: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "serving", "--workspace", str(workspace), *options]


@contextmanager
def serving(workspace: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    with (workspace / "service.log").open("wb") as log:
        process = subprocess.Popen(command(workspace, "--port", str(port), *options), stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        soon(lambda: process.poll() is not None or answers(base), within_s=30)
        assert process.poll() is None, (workspace / "service.log").read_text()
        yield process, base
    finally:
        process.terminate()
        process.wait(timeout=15)


def answers(base: str) -> bool:
    try:
        return ask(base + "/healthz")[0] == 200
    except OSError:
        return False


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def scraped(base: str) -> str:
    with urllib.request.urlopen(base + "/metrics") as answer:
        return str(answer.read().decode())


def test_a_process_without_a_release_takes_events_and_keeps_them_through_kill_9(workspace: Path) -> None:
    first, second = event("u", "a"), event("u", "b")
    with serving(workspace) as (process, base):
        assert ask(base + "/readyz")[0] == 503
        status, slate = ask(base + "/v1/recommendations", {"user_id": "u"})
        assert (status, slate["degraded"]) == (200, ["release"])
        assert ask(base + "/v1/events:batch", {"events": [first]})[0] == 202
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(workspace) as (_, base):
        _, reply = ask(base + "/v1/events:batch", {"events": [first, second]})
        assert [each["status"] for each in reply["statuses"]] == ["duplicate", "accepted"]


def test_two_workers_share_one_store(workspace: Path) -> None:
    with serving(workspace, "--workers", "2") as (_, base):
        events = [event("u", f"item {number}") for number in range(20)]
        for each in events:
            assert ask(base + "/v1/events:batch", {"events": [each]})[0] == 202
        _, reply = ask(base + "/v1/events:batch", {"events": events})
        assert reply["duplicate"] == 20
        # A scrape shows all workers, not one: each lets the others see its numbers about once a second.
        soon(lambda: 'recsys_events_total{status="accepted"} 20.0' in scraped(base))


def test_a_trace_is_found_whichever_of_two_workers_is_asked(workspace: Path) -> None:
    with serving(workspace, "--workers", "2") as (_, base):
        for _ in range(10):
            _, slate = ask(base + "/v1/recommendations", {"user_id": "u"})
            address = f"{base}/v1/recommendations/{slate['recommendation_id']}/trace"
            assert [ask(address)[0] for _ in range(3)] == [200, 200, 200]
        assert ask(f"{base}/v1/recommendations/none/trace")[0] == 404


def test_a_body_far_over_the_limit_is_refused_in_words_and_not_by_a_broken_connection(workspace: Path) -> None:
    with serving(workspace) as (_, base):
        status, problem = ask(base + "/v1/events:batch", {"events": ["x" * 20_000_000]})
        assert (status, problem["status"]) == (413, 413)
        assert ask(base + "/healthz")[0] == 200


def test_an_address_may_hold_the_longest_token_that_is_given_out_for_one(workspace: Path) -> None:
    asked = asked_digest("popular", None, None, None, (), None, "")
    page = Page("0" * 32, 0, np.empty(0, np.uint32))
    shown = np.arange(MAX_ITEMS_IN_URL, dtype=np.uint64)
    with serving(workspace) as (_, base):
        key = (workspace / TOKEN_FILE).read_bytes()
        token = PageTokens(key).write(page, asked, shown, int(time.time()), MAX_ITEMS_IN_URL)
        assert ask(f"{base}/v1/popular?page_token={token}")[0] == 200
        assert ask(f"{base}/v1/popular?page_token={token}&limit=3&user_id=u")[0] == 422


def test_it_ends_cleanly_when_it_is_told_to(workspace: Path) -> None:
    with serving(workspace) as (process, _):
        process.terminate()
        assert process.wait(timeout=10) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--host", "0.0.0.0"), "RECSYS_API_KEYS_SHA256"),
        (("--workers", "2", "--store", "memory://"), "workers to 1"),
        (("--port", "many"), "RECSYS_PORT"),
    ],
)
def test_what_would_be_unsafe_or_impossible_ends_with_2_and_says_what_to_do(
    workspace: Path, options: tuple[str, ...], says: str
) -> None:
    done = subprocess.run(command(workspace, *options), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_service_loads_neither_torch_nor_transformers_and_does_nothing() -> None:
    heavy = ("torch", "torchrec", "transformers", "open_clip", "timm")
    code = f"import sys, serving.app, serving.__main__; print([name for name in {heavy!r} if name in sys.modules])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECSYS_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
