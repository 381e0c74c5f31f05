"""docker-compose.yml, run as processes: each service's own command, environment and health check, on a real redis.

No container engine is needed. What the engine would give is mapped: volumes to folders, host names and ports to
loopback, images to the programs of this environment. What it alone can show (image builds, users, capabilities,
read-only file systems) is checked as text.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.storage.redis_server import find_redis_server
from tests.integration.released_workspace import write_workspace

ROOT = Path(__file__).resolve().parents[2]
KEY = "a key for this test"
START_S = 90.0
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file as the engine reads it: `${NAME}`, `${NAME:-default}` and `${NAME:?complaint}` filled in."""

    def value_of(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise KeyError(f"{name}: {rest}")
        return rest or ""

    text = re.sub(r"^\s*#.*$", "", (ROOT / "docker-compose.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    parsed: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(value_of, text))
    return parsed


HASHED = {"RECSYS_API_KEYS_SHA256": sha256(KEY.encode()).hexdigest()}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    parsed: dict[str, Any] = compose(HASHED)["services"]
    return parsed


def test_without_an_api_key_the_file_is_refused() -> None:
    with pytest.raises(KeyError, match="RECSYS_API_KEYS_SHA256: set it to the sha256"):
        compose({})


def test_no_service_runs_as_root_or_may_become_root(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert int(service["user"].split(":")[0]) > 0, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["read_only"] is True, name


def test_published_ports_are_bound_to_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8000:8000"]


def test_redis_keeps_every_second_on_disk_in_a_volume(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert (options["--appendonly"], options["--appendfsync"], options["--dir"]) == ("yes", "everysec", "/data")
    assert options["--maxmemory-policy"] == "noeviction"  # a store: nothing in it may be dropped
    assert services["redis"]["volumes"] == ["redis-data:/data"]


def test_the_worker_runs_once_and_only_when_asked(services: dict[str, Any]) -> None:
    assert (services["worker"]["restart"], services["worker"]["profiles"]) == ("no", ["jobs"])


def test_service_and_worker_share_one_workspace(services: dict[str, Any]) -> None:
    assert services["api"]["volumes"] == services["worker"]["volumes"] == ["./workspace:/workspace"]
    assert services["worker"]["working_dir"] == services["api"]["environment"]["RECSYS_WORKSPACE"] == "/workspace"


def test_every_image_that_is_built_is_a_target_of_the_dockerfile(services: dict[str, Any]) -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    for name in ("api", "worker"):
        assert services[name]["build"]["target"] in stages


def stage(name: str) -> str:
    """The text of one stage of the Dockerfile."""
    return re.split(r"^FROM ", (ROOT / "Dockerfile").read_text().split(f" AS {name}\n", 1)[1], flags=re.MULTILINE)[0]


def test_the_serving_image_gets_the_serving_requirements_only() -> None:
    assert re.findall(r"requirements/\w+\.txt", stage("serve-venv").split("COPY --from")[0])[-1] == (
        "requirements/serve.txt"
    )
    assert "--from=serve-venv" in stage("serve")
    assert "--from=worker-venv" in stage("worker")
    for name in ("serve", "worker"):
        assert "USER recsys" in stage(name)


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in {name for names in copied for name in names.split()}:
        assert (ROOT / name).exists(), name
        assert name in allowed or re.sub(r"/\w+\.txt$", "/*.txt", name) in allowed, name


class Engine:
    """Runs services of the file as processes, with volumes, host names, ports and programs mapped to this machine."""

    def __init__(self, services: dict[str, Any], folder: Path) -> None:
        self._services, self._folder = services, folder
        self._redis_port, self._api_port = free_port(), free_port()
        self.api_url = f"http://127.0.0.1:{self._api_port}"
        self.store_url = f"redis://127.0.0.1:{self._redis_port}/0"
        for name in ("data", "workspace"):
            (folder / name).mkdir()

    def mapped(self, text: str) -> str:
        """A word of a command or a variable's value, as it is on this machine."""
        places = {
            "/workspace": str(self._folder / "workspace"),
            "/data": str(self._folder / "data"),
            "0.0.0.0": "127.0.0.1",
            "6379": str(self._redis_port),
            "8000": str(self._api_port),
            "redis://redis:": "redis://127.0.0.1:",
        }
        for there, here in places.items():
            text = re.sub(rf"(?<![\w/]){re.escape(there)}(?!\w)", here, text)
        return text

    def command(self, words: list[str]) -> list[str]:
        redis = find_redis_server()
        assert redis is not None
        programs = {
            "redis-server": [str(redis), "--bind", "127.0.0.1"],
            "redis-cli": [str(redis.with_name("redis-cli"))],
            "python": [sys.executable],
            "recsys": [str(Path(sys.executable).parent / "recsys")],
        }
        return [*programs[words[0]], *map(self.mapped, words[1:])]

    def environment(self, name: str) -> dict[str, str]:
        """The service's own variables and nothing of this process but PATH."""
        variables = {key: self.mapped(value) for key, value in self._services[name].get("environment", {}).items()}
        return {"PATH": os.environ["PATH"], **variables}

    def popen(self, name: str, *, command: list[str] | None = None, **changes: str) -> subprocess.Popen[bytes]:
        service = self._services[name]
        words = [*service.get("entrypoint", []), *(command or service["command"])]
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self.command(words),
                cwd=self.mapped(service.get("working_dir", "/workspace")),
                env=self.environment(name) | changes,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-4000:]

    def healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        kind, *words = self._services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return (
            subprocess.run(self.command(words), env=self.environment(name), capture_output=True, timeout=30).returncode
            == 0
        )

    @contextmanager
    def up(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """The service, once its health check passes; ended in order afterwards."""
        process = self.popen(name)
        try:
            give_up_at = time.monotonic() + START_S
            while not self.healthy(name):
                assert process.poll() is None, self.log(name)
                assert time.monotonic() < give_up_at, self.log(name)
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            process.wait(timeout=30)


def ended(process: subprocess.Popen[bytes], within_s: float) -> int | None:
    """Its exit code; None, and it is killed, when it takes longer."""
    try:
        return process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def post(url: str, body: dict[str, Any], key: str = KEY) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_the_composed_services_work_together(services: dict[str, Any], tmp_path: Path) -> None:
    """Redis, then the worker's job, then the service: it answers with a key, and its events outlive a restart."""
    engine = Engine(services, tmp_path)
    write_workspace(tmp_path / "workspace", engine.store_url)
    event = {
        "event_id": "event-1",
        "user_id": "somebody-new",
        "item_id": "item-0003",
        "event_type": "interaction",
        "occurred_at": "2024-03-01T10:00:00Z",
    }
    with engine.up("redis"):
        worker = engine.popen("worker")
        assert ended(worker, within_s=300) == 0, engine.log("worker")
        with engine.up("api"):
            question = {"user_id": "somebody-new", "limit": 5}
            assert post(f"{engine.api_url}/v1/recommendations", question, key="wrong")[0] == 401
            status, slate = post(f"{engine.api_url}/v1/recommendations", question)
            assert (status, len(slate["items"]), slate["degraded"]) == (200, 5, [])
            assert post(f"{engine.api_url}/v1/events:batch", {"events": [event]})[0] == 202
            time.sleep(1.5)  # appendfsync everysec
    with engine.up("redis"), engine.up("api"):
        status, reply = post(f"{engine.api_url}/v1/events:batch", {"events": [event]})
        assert (status, reply["accepted"], reply["duplicate"]) == (202, 0, 1)
        _, slate = post(f"{engine.api_url}/v1/recommendations", {"user_id": "somebody-new", "limit": 5})
        assert "item-0003" not in {item["item_id"] for item in slate["items"]}


@pytest.mark.slow
def test_beyond_loopback_without_a_key_the_service_refuses_to_start(services: dict[str, Any], tmp_path: Path) -> None:
    engine = Engine(services, tmp_path)
    write_workspace(tmp_path / "workspace", engine.store_url)
    process = engine.popen("api", RECSYS_API_KEYS_SHA256="", RECSYS_HOST="0.0.0.0")
    assert ended(process, within_s=60) == 2, engine.log("api")
    assert "RECSYS_API_KEYS_SHA256" in engine.log("api")
