"""The demo's view of the service: a small HTTP client, a service process, and what its process used."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.serve import free_port, start_service
from recsys.errors import EnvironmentProblem, RecsysError

READY_WITHIN_S = 60.0


class Client:
    """Asks the service on a loopback port; an answer that is no 2xx raises with the service's own words."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        return self._ask(urllib.request.Request(self.base + path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        data = json.dumps(body).encode()
        return self._ask(urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}))

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.base + path, timeout=30) as reply:
            return str(reply.read().decode())

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError as error:
            raise RecsysError(f"{request.selector} answered {error.code}: {error.read().decode()[:500]}") from None


@contextmanager
def running_service(root: Path, store_url: str) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """The service on a free port, ready to answer; ended with the block.

    Raises EnvironmentProblem, with the end of its log, when it does not become ready.
    """
    log_file, port = root / "service.log", free_port()
    process = start_service(root, port=port, store_url=store_url, log_file=log_file)
    try:
        client = Client(port)
        _wait_ready(client, process, log_file)
        yield client, process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_ready(client: Client, process: subprocess.Popen[bytes], log_file: Path) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            client.text("/readyz")
            return
        except (OSError, RecsysError):
            time.sleep(0.1)
    raise EnvironmentProblem(f"the service did not become ready; the end of its log:\n{log_file.read_text()[-2000:]}")


def cpu_seconds(process_id: int) -> float:
    """User and system time of one process so far (Linux)."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_rss_bytes(process_id: int) -> int:
    """Largest resident set of one process so far (Linux)."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def cache_hit_shares(metrics: str) -> dict[str, float]:
    """cache → hits / requests, from the service's Prometheus page."""
    counts: dict[str, dict[str, float]] = {}
    for line in metrics.splitlines():
        if line.startswith("recsys_cache_requests_total{"):
            labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(","))
            name, result = labels["cache"].strip('"'), labels["result"].strip('"')
            counts.setdefault(name, {})[result] = float(line.rsplit(" ", 1)[1])
    return {name: found.get("hit", 0) / max(sum(found.values()), 1) for name, found in counts.items()}
