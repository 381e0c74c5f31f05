"""The service as users run it, with its encoder process: one of it, whatever the number of workers."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys.workspace import Workspace
from tests.embeddings.conftest import picture, saved
from tests.serving.asking import soon
from tests.serving.test_process import ask, serving
from tests.worlds.workspaces import copied

pytestmark = pytest.mark.slow
FAST = "[serving]\nlive_poll_s = 0.1\nrelease_poll_s = 0.1\n"
WAIT_S = 30.0


@pytest.fixture
def workspace(released: Workspace, tmp_path: Path) -> Path:
    return copied(released, tmp_path / "copy", more=FAST).root


def encoders_of(pid: int) -> list[int]:
    """Encoder processes below this one."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            found += [int(child)] if b"serving.encoding" in command else []
            found += encoders_of(int(child))
    return found


def upsert(base: str, name: str, image: bytes | None = None) -> tuple[int, Any]:
    body: dict[str, Any] = {"item_id": name, "title": f"{name} ember flame", "categories": ["Fire"]}
    if image is not None:
        body["image_base64"] = base64.b64encode(image).decode()
    return ask(base + "/v1/items", body)


@pytest.fixture
def service(workspace: Path) -> Iterator[tuple[int, str]]:
    """The pid of its main process, and its address."""
    with serving(workspace, "--workers", "2") as (process, base):
        soon(lambda: ask(base + "/readyz")[0] == 200, within_s=WAIT_S)
        yield process.pid, base


def test_two_workers_share_one_encoder_process_that_comes_back_when_it_is_killed(service: tuple[int, str]) -> None:
    main, base = service
    status, reply = upsert(base, "first", saved(picture()))  # a process that is just starting is waited for
    assert (status, reply["modalities"]) == (200, ["image", "text"])
    (encoder,) = encoders_of(main)
    status, problem = upsert(base, "hostile", b"GIF89a....")
    assert (status, problem["field"]) == (422, "/image_base64")
    os.kill(encoder, signal.SIGKILL)
    soon(lambda: upsert(base, "second")[0] == 200, within_s=WAIT_S)
    (again,) = encoders_of(main)
    assert again != encoder
    assert ask(base + "/v1/recommendations", {"limit": 5})[1]["degraded"] == []


def test_switched_off_the_workers_encode_themselves(workspace: Path) -> None:
    with (workspace / "recsys.toml").open("a") as config:
        config.write('[serving.encoder]\nprocess = "off"\n')
    with serving(workspace) as (process, base):
        soon(lambda: ask(base + "/readyz")[0] == 200, within_s=WAIT_S)
        assert upsert(base, "first", saved(picture()))[0] == 200
        assert encoders_of(process.pid) == []
