"""The README's short commands, run from top to bottom as a reader would, in one workspace."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import serving.client
from tests.docs.blocks import Block, blocks
from tests.worlds.checkerboard import write_world

SHOWN = "http://127.0.0.1:8000"
READY_S = 60.0
# The reader's own machine and patience: no weights, a small model, few steps, and all the time that an answer takes.
SMALLER = {
    "image": '"fake"',
    "text": '"fake"',
    "dim": "32",
    "n_blocks": "1",
    "max_tokens": "30000",
    "n_evaluations": "2",
    "recommendations_ms": "60000",
    "search_ms": "60000",
}


class Reader:
    """Somebody who follows the README in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = self.home = folder
        self.base = ""
        programs = folder / "bin"
        programs.mkdir()
        (folder / ".curlrc").write_text("fail-with-body\n")
        if shutil.which("curl") is None:
            source = Path(__file__).with_name("curl.py").read_text(encoding="utf-8")
            (programs / "curl").write_text(f"#!{sys.executable}\n{source}", encoding="utf-8")
            (programs / "curl").chmod(0o755)
        path = f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def runs(self, block: Block) -> str:
        """What the block prints; the folder it ends in is where the next one begins."""
        remember = self.home / "where"
        script = f"set -euo pipefail\n{block.text.replace(SHOWN, self.base or SHOWN)}\npwd > '{remember}'\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{block.where} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.folder = Path(remember.read_text().strip())
        return done.stdout

    def writes(self, block: Block) -> None:
        path = self.folder / block.mark[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def has_more_than_the_rows_shown(self) -> None:
        """The rows of the README and a world of 60 items and 120 users, in the same files; pictures for all."""
        data = self.folder / "data"
        shown = (data / "items.jsonl").read_text(encoding="utf-8")
        bought = (data / "interactions.csv").read_text(encoding="utf-8")
        write_world(data, n_items=60, n_users=120)
        with (data / "items.jsonl").open("a", encoding="utf-8") as items:
            items.write(shown)
        for row in map(json.loads, shown.splitlines()):
            if "image" in row:
                shutil.copyfile(data / "images" / "item-0000.png", data / row["image"])
        columns = bought.splitlines()[0].split(",")
        with (data / "interactions.csv").open("a", encoding="utf-8", newline="") as interactions:
            writer = csv.DictWriter(interactions, columns, restval="view")
            writer.writerows(map(json.loads, (data / "interactions.jsonl").read_text().splitlines()))
        (data / "interactions.jsonl").unlink()

    def trains_a_small_model(self) -> None:
        """Settings uncommented in the recsys.toml that `recsys init` wrote, as a reader would."""
        path = self.folder / "recsys.toml"
        text = path.read_text(encoding="utf-8")
        for name, value in SMALLER.items():
            text, n = re.subn(rf"^# ?{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert n == 1, f"recsys.toml shows {name} {n} times"
        path.write_text(text, encoding="utf-8")

    @contextmanager
    def serves(self, block: Block) -> Iterator[None]:
        port = free_port()
        command = f"exec {block.text.strip()} --port {port}"
        with (self.home / "service.log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", command], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
        self.base = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(self.base, process, self.home / "service.log")
            wait_for_encoders(self.base)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(base: str, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + READY_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{base}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"the service is not ready: {log.read_text()[-3000:]}")


def wait_for_encoders(base: str) -> None:
    """A reader takes longer to come to a search than the encoder process takes to start."""
    search = urllib.request.Request(f"{base}/v1/search", b'{"text": "jacket"}', {"Content-Type": "application/json"})
    give_up_at = time.monotonic() + READY_S
    while time.monotonic() < give_up_at:
        with urllib.request.urlopen(search, timeout=READY_S) as reply:
            if not json.load(reply)["degraded"]:
                return
        time.sleep(0.1)
    raise AssertionError("the encoder process does not answer")


def replies(printed: str, block: Block) -> list[Any]:
    """Every reply that a block printed, decoded as the struct that its mark names."""
    struct = getattr(serving.client, block.mark[1])
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(printed.rstrip()):
        value, at = decoder.raw_decode(printed, at)
        at += len(printed[at:]) - len(printed[at:].lstrip())
        found.append(msgspec.convert(value, struct))
    return found


def is_what_a_reader_expects(reply: Any, may_be_empty: bool = False) -> bool:
    match reply:
        case serving.client.RecommendationReply():
            return (may_be_empty or bool(reply.items)) and not reply.degraded and not reply.missing_ids
        case serving.client.EventBatchReply():
            return reply.accepted == len(reply.statuses) and not reply.missing_ids
        case serving.client.ItemUpsertReply():
            return bool(reply.recommendable)
        case serving.client.ItemReply():
            return reply.shown
        case serving.client.ItemBatchReply():
            return reply.accepted + reply.deleted == len(reply.statuses) > 0
        case serving.client.ItemDeletionReply():
            return not reply.missing_ids
        case serving.client.UsersMergeReply():
            return reply.interactions > 0
        case serving.client.UserBlockReply():
            return reply.blocked > 0
        case serving.client.ErasureReply():
            return sum(reply.erased.values()) > 0
        case serving.client.TraceReply():
            return bool(reply.stages)
        case _:
            return bool(reply.status == "ready")


@pytest.mark.slow
def test_the_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    in_order = [block for block in blocks() if block.kind in ("run", "serve", "curl", "python", "file")]
    (service,) = (at for at, block in enumerate(in_order) if block.kind == "serve")
    for block in in_order[:service]:
        follow(reader, block)
    with reader.serves(in_order[service]):
        for block in in_order[service + 1 :]:
            follow(reader, block)
    assert (reader.folder / "releases" / "current").exists()


def follow(reader: Reader, block: Block) -> None:
    if block.kind == "python":
        assert reader.runs(replace(block, text=f"python - <<'PROGRAM'\n{block.text}\nPROGRAM")).strip()
        return
    if block.kind == "file":
        reader.writes(block)
        if block.mark[1] == "data/interactions.csv":
            reader.has_more_than_the_rows_shown()
        return
    printed = reader.runs(block)
    if "recsys init" in block.text:
        reader.trains_a_small_model()
    if block.kind == "curl":
        answers = replies(printed, block)
        assert answers, f"{block.where} printed no reply"
        for answer in answers:
            assert is_what_a_reader_expects(answer, "nothing" in block.mark), f"{block.where}: {answer}"
