"""The service starts and answers where only requirements/serve.txt is installed: no torch, no transformers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.released_workspace import recsys, write_workspace

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("recsys", "embeddings", "serving", "jobs")
START_S = 60.0


def uv(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """uv, from its cache if it can: `make setup` has just put all of this there."""
    command = [str(Path(sys.executable).parent / "uv"), *map(str, arguments)]
    done = subprocess.run([*command, "--offline"], capture_output=True, text=True)
    if done.returncode:
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def serving_environment() -> Path:
    """Its python, with requirements/serve.txt and nothing else; made once for each version of that file."""
    lock = ROOT / "requirements" / "serve.txt"
    digest = hashlib.sha256(lock.read_bytes() + sys.executable.encode()).hexdigest()[:16]
    folder = ROOT / "build" / f"serve-venv-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        for old in folder.parent.glob("serve-venv-*"):
            shutil.rmtree(old)
        uv("venv", "--clear", "--python", sys.executable, folder)
        uv("pip", "sync", "--python", python, "--require-hashes", lock)
        (folder / "complete").touch()
    return python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The serving environment's python, and the folder into which the project was installed as a wheel."""
    source = tmp_path_factory.mktemp("source")  # setuptools leaves files beside what it builds
    for name in (*SOURCES, "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.exists():
            shutil.copy(path, source / name)
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", source / "dist", source)
    (wheel,) = (source / "dist").glob("*.whl")
    python, target = serving_environment(), tmp_path_factory.mktemp("installed")
    uv("pip", "install", "--no-deps", "--python", python, "--target", target, wheel)
    return python, target


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a published release, made by this environment, which has torch."""
    folder = tmp_path_factory.mktemp("workspace")
    write_workspace(folder)
    recsys("refresh", folder=folder)
    return folder


@pytest.fixture(scope="module")
def service(installed: tuple[Path, Path], workspace: Path) -> Iterator[str]:
    """URL of the service, started by `recsys serve` in the serving environment."""
    python, target = installed
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = workspace / "service.log"
    command = [str(target / "bin" / "recsys"), "serve", "--workspace", str(workspace), "--port", str(port)]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(python), *command], cwd=workspace, env=bare_environment(target), stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{port}"
        give_up_at = time.monotonic() + START_S
        while not answers(f"{url}/readyz"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up_at, log.read_text()
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def bare_environment(target: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as reply:
        value: dict[str, Any] = json.load(reply)
    return value


def run_there(installed: tuple[Path, Path], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    python, target = installed
    return subprocess.run(
        [str(python), "-c", code], cwd=folder, env=bare_environment(target), capture_output=True, text=True
    )


@pytest.mark.parametrize("library", ["torch", "torchrec", "fbgemm_gpu", "transformers", "open_clip", "timm"])
def test_the_serving_install_lacks(library: str, installed: tuple[Path, Path], tmp_path: Path) -> None:
    done = run_there(installed, f"import {library}", tmp_path)
    assert f"No module named '{library}'" in done.stderr


def test_the_wheel_holds_every_module(installed: tuple[Path, Path]) -> None:
    for name in SOURCES:
        here = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")}
        there = {path.relative_to(installed[1]) for path in (installed[1] / name).rglob("*.py")}
        assert here == there


def test_the_service_recommends_from_there(service: str) -> None:
    history = [{"item_id": "item-0003", "event_type": "interaction", "occurred_at": "2024-03-01T10:00:00Z"}]
    slate = post(f"{service}/v1/recommendations", {"user_id": "user-0001", "history": history, "limit": 5})
    assert len(slate["items"]) == 5
    assert slate["degraded"] == []
    assert "item-0003" not in {item["item_id"] for item in slate["items"]}


def test_a_new_item_is_encoded_there_without_torch(service: str) -> None:
    """The item's words go through the release's own ONNX encoder and tower."""
    item = {"item_id": "brand-new", "title": "ember flame furnace 61", "categories": ["Fire"]}
    assert "text" in post(f"{service}/v1/items", item)["modalities"]
    with urllib.request.urlopen(f"{service}/v1/similar?item_id=brand-new&limit=5", timeout=10) as reply:
        similar = json.load(reply)["items"]
    assert len(similar) == 5


def test_the_doctor_says_that_a_serving_install_cannot_train(installed: tuple[Path, Path], tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from jobs.doctor import doctor; sys.exit(doctor(Path('.')))"
    done = run_there(installed, code, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "missing: torch, torchrec, fbgemm" in " ".join(done.stdout.split())
