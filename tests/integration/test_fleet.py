"""Two hosts of two processes each on one store and one release store, and a release published in the middle of load."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.release import build_job
from recsys.storage.redis_server import PrivateRedis
from recsys.storage.release_files import LocalReleaseStore
from recsys.storage.remote_releases import RemoteReleaseStore
from recsys.workspace import CONFIG_NAME, Workspace
from serving.__main__ import free_port
from tests.worlds.release_stores import s3_server
from tests.worlds.workspaces import NOW, add_item, copied

WORKERS = 2
VISITORS = 3  # of each host, each on a connection of its own, which one worker keeps
START_S, TAKE_OVER_S = 60.0, 30.0
URL = "s3://releases/fleet"

RELEASES = """
[releases]
url = "{url}"
storage_options = {{ endpoint_url = "{endpoint_url}" }}
"""
HOST = """\
[serving]
store_url = "{store_url}"
workers = {workers}
release_poll_s = 0.2
"""


@dataclass
class Host:
    """One machine: its workspace holds a configuration and, after a while, what it pulled."""

    root: Path
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        return (self.root / "log").read_text(errors="replace")

    def took_over(self) -> list[str]:
        """The releases that its workers began to serve, in order."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line["release"] for line in lines if line["message"] == "a release serves"]


@contextmanager
def started(root: Path, config: str) -> Iterator[Host]:
    root.mkdir()
    (root / CONFIG_NAME).write_text(config, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "serving", "--workspace", str(root), "--port", str(port)]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield Host(root, port, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def two_releases(released: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, ...]]:
    """(publisher's workspace, storage options, first, second) with both releases uploaded and the first published."""
    publisher = copied(released, tmp_path / "publisher")
    add_item(publisher, "item-9000", title="ember flame", categories=["Fire"])
    built, exit_code = build_job(publisher, now=NOW, publish=False)
    assert exit_code == 0, built["gate_problems"]
    local = LocalReleaseStore(publisher.root)
    first, second = str(local.current()), str(built["release"])
    with s3_server(monkeypatch) as options:
        remote = RemoteReleaseStore(URL, tmp_path / "publisher-cache", options=options)
        for release_id in (first, second):
            manifest = local.manifest(release_id)
            remote.put({name: local.open(manifest, name) for name in manifest.files}, manifest)
        remote.publish(first)
        with (publisher.root / CONFIG_NAME).open("a", encoding="utf-8") as config:
            config.write(RELEASES.format(url=URL, **options))
        yield publisher, options, first, second


@dataclass
class Answers:
    """What each visitor was told, in order: (status, release, number of items)."""

    of: dict[tuple[int, int], list[tuple[int, str, int]]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def all(self) -> list[tuple[int, str, int]]:
        return [answer for answers in self.of.values() for answer in answers]

    def moves(self, visitor: tuple[int, int]) -> list[str]:
        """The releases that one visitor saw, each time another one than before."""
        return [release for release, _ in groupby(release for _, release, _ in self.of[visitor])]


async def visit(host: Host, visitor: tuple[int, int], answers: Answers, done: asyncio.Event) -> None:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60)
    async with httpx.AsyncClient(base_url=host.url, limits=limits, timeout=20, trust_env=False) as client:
        number = 0
        while not done.is_set():
            number += 1
            body = {"user_id": f"user-{visitor}-{number}", "history": [{"item_id": "item-0003"}], "limit": 5}
            try:
                reply = await client.post("/v1/recommendations", json=body)
                told = reply.json()
                answers.of[visitor].append((reply.status_code, told.get("release", ""), len(told.get("items", ()))))
            except (httpx.HTTPError, ValueError) as error:
                answers.failures.append(f"{visitor}: {type(error).__name__}: {error}")
            await asyncio.sleep(0.03)


async def recsys(*arguments: str, workspace: Workspace) -> None:
    """A job as a process of its own, beside the load."""
    command = [str(Path(sys.executable).parent / "recsys"), *arguments, "--workspace", str(workspace.root)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def until(condition: Callable[[], bool], within_s: float, what: Callable[[], str]) -> None:
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at, what()
        await asyncio.sleep(0.1)


@pytest.mark.slow
def test_a_release_published_under_load_reaches_every_process_of_every_host(
    two_releases: tuple[Workspace, dict[str, Any], str, str], tmp_path: Path
) -> None:
    publisher, options, first, second = two_releases
    answers = Answers()
    with ExitStack() as stack:
        redis = stack.enter_context(PrivateRedis(tmp_path / "redis"))
        config = HOST.format(store_url=redis.url, workers=WORKERS) + RELEASES.format(url=URL, **options)
        hosts = [stack.enter_context(started(tmp_path / f"host-{number}", config)) for number in range(2)]
        asyncio.run(_story(hosts, publisher, (first, second), answers))
    assert answers.failures == []
    assert {status for status, _, _ in answers.all()} == {200}
    assert {release for _, release, _ in answers.all()} == {first, second}
    assert {n_items for _, _, n_items in answers.all()} == {5}
    for visitor in answers.of:  # to the second, and back by the rollback: no worker ever went to and fro
        assert answers.moves(visitor) == [first, second, first], visitor
    for host in hosts:
        assert host.took_over() == [first] * WORKERS + [second] * WORKERS + [first] * WORKERS
        # Both releases are kept, each object once.
        cached = list((host.root / "artifacts" / "release_cache" / "objects").glob("*/*"))
        local = LocalReleaseStore(publisher.root)
        entries = [entry for each in (first, second) for entry in local.manifest(each).files.values()]
        assert {path.name for path in cached} == {entry.sha256 for entry in entries}


async def _story(hosts: list[Host], publisher: Workspace, releases: tuple[str, str], answers: Answers) -> None:
    first, second = releases
    done = asyncio.Event()

    def all_took_over(expected: list[str]) -> Callable[[], bool]:
        return lambda: all(host.took_over() == expected for host in hosts)

    def logs() -> str:
        return "\n".join(host.log()[-3000:] for host in hosts)

    expected = [first] * WORKERS
    await until(all_took_over(expected), START_S, logs)
    visits = [
        asyncio.create_task(visit(host, (number, visitor), answers, done))
        for number, host in enumerate(hosts)
        for visitor in range(VISITORS)
    ]
    await until(lambda: len(answers.of) == len(visits), TAKE_OVER_S, logs)
    for release_id, command in ((second, ("release", "publish", second)), (first, ("release", "rollback"))):
        await recsys(*command, workspace=publisher)
        expected = expected + [release_id] * WORKERS
        await until(all_took_over(expected), TAKE_OVER_S, logs)
        await asyncio.sleep(0.5)  # long enough for every worker to be asked again
    done.set()
    await asyncio.gather(*visits)
