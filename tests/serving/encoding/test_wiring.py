"""What a worker holds: with an encoder process the way to it, without one the encoders themselves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from recsys.errors import CorruptArtifact, EncoderUnavailable, InvalidRequest
from recsys.release_loading import load_release
from recsys.storage.release_files import LocalReleaseStore
from recsys.workspace import Workspace
from serving import errors
from serving.bootstrap import adapters_of, encoder_client
from serving.encoding.local import LocalContentEncoding
from serving.encoding.remote import RemoteContentEncoder
from serving.settings import ENCODER_VARIABLE, Settings, read_settings
from serving.telemetry import Telemetry
from serving.work import Work
from tests.serving.encoding.conftest import Start
from tests.worlds.workspaces import copied


def settings_of(workspace: Path, socket: Path) -> Settings:
    return read_settings({"RECSYS_WORKSPACE": str(workspace), ENCODER_VARIABLE: str(socket)})


def test_a_worker_knows_the_spaces_without_reading_the_graphs_which_the_process_verifies(
    released: Workspace, tmp_path: Path, socket: Path, start: Start
) -> None:
    workspace = copied(released, tmp_path / "copy").root
    store = LocalReleaseStore(workspace)
    release_id = store.current()
    assert release_id is not None
    manifest = store.manifest(release_id)
    graph = store.open(manifest, "encoders/text_encoder.onnx")
    graph.chmod(0o644)
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    settings = settings_of(workspace, socket)
    client = encoder_client(settings, Telemetry())
    assert client is not None
    try:
        release = load_release(store, release_id, adapters_of(release_id, client, settings))
        encoder = release.content_encoder
        assert isinstance(encoder, RemoteContentEncoder)
        assert encoder.space_ids == {name: space.space_id for name, space in manifest.spaces.items()}
        start("serving.encoding", "--workspace", str(workspace))
        with pytest.raises(CorruptArtifact, match=r"text_encoder\.onnx"):
            encoder.encode_text("hello")
    finally:
        client.close()
    with pytest.raises(CorruptArtifact, match=r"text_encoder\.onnx"):
        load_release(store, release_id, adapters_of(release_id, None, settings))


def test_switched_off_there_is_no_client(released: Workspace, tmp_path: Path, socket: Path) -> None:
    off = '[serving.encoder]\nprocess = "off"\n'
    settings = settings_of(copied(released, tmp_path / "copy", more=off).root, socket)
    assert encoder_client(settings, Telemetry()) is None


class Slow:
    """Encodes a text to its length, after a while where it says so."""

    space_ids = {"text": "space"}  # noqa: RUF012

    def encode_text(self, text: str) -> np.ndarray:
        time.sleep(0.5 if text == "slow" else 0.0)
        return np.array([len(text)], dtype=np.float32)


def test_encoders_in_the_worker_have_the_same_face() -> None:
    work = Work("encoding", threads=1, max_concurrent=4)
    local, encoder = LocalContentEncoding(work), Slow()
    local.know("r", encoder)  # type: ignore[arg-type]

    async def asked() -> None:
        assert (await local.encode_text("four", release_id="r", timeout_s=5.0)).tolist() == [4.0]
        with pytest.raises(InvalidRequest, match="no image encoder"):
            await local.encode_image(b"", release_id="r", timeout_s=5.0)
        with pytest.raises(InvalidRequest, match="no text encoder"):
            await local.encode_text("four", release_id="another", timeout_s=5.0)
        with pytest.raises(EncoderUnavailable, match="no answer in"):
            await local.encode_text("slow", release_id="r", timeout_s=0.05)

    asyncio.run(asked())
    work.close()


@pytest.mark.parametrize("error", [EncoderUnavailable("it does not listen"), CorruptArtifact("at /a/path")])
def test_without_encoders_a_request_is_answered_with_503_and_no_paths(error: Exception) -> None:
    app = FastAPI()
    errors.install(app)

    async def fails(request: Request) -> Response:
        raise error

    app.add_route("/fails", fails)
    reply = TestClient(app).get("/fails")
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "1"
    assert reply.json()["type"] == "urn:recsys:problem:encoder-unavailable"
    assert "/a/path" not in reply.text
