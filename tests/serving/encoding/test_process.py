"""The encoder process over a release that the jobs made: the same vectors, and no harm from outside."""

from __future__ import annotations

import asyncio
import os
import signal
import socket as sockets
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embeddings.content_encoder import OnnxContentEncoder
from recsys.errors import EncoderUnavailable, InvalidRequest, MissingArtifact, SpaceMismatch, TooLarge
from recsys.release_loading import ENCODER_FOLDER
from recsys.storage.release_files import LocalReleaseStore
from recsys.workspace import Workspace
from serving.encoding.client import EncoderClient
from serving.encoding.remote import RemoteContentEncoder
from serving.telemetry import Telemetry
from tests.embeddings.conftest import picture, saved
from tests.serving.asking import soon
from tests.serving.encoding.conftest import MAX_BYTES, Connect, Process, Start, answers
from tests.worlds.hostile_bytes import png_bomb
from tests.worlds.hostile_files import hostile_files, is_valid
from tests.worlds.workspaces import copied

WAIT_S = 20.0


@pytest.fixture
def release_id(released: Workspace) -> str:
    current = LocalReleaseStore(released.root).current()
    assert current is not None
    return current


@pytest.fixture
def here(released: Workspace, release_id: str) -> OnnxContentEncoder:
    """The release's encoders in this process."""
    store = LocalReleaseStore(released.root)
    manifest = store.manifest(release_id)
    names = [name for name in manifest.files if name.startswith(ENCODER_FOLDER)]
    return OnnxContentEncoder.open({name.removeprefix(ENCODER_FOLDER): store.open(manifest, name) for name in names})


@pytest.fixture
def process(start: Start, released: Workspace) -> Process:
    return start("serving.encoding", "--workspace", str(released.root))


@pytest.fixture
def client(process: Process, connect: Connect) -> EncoderClient:
    return connect()


@pytest.fixture
def there(client: EncoderClient, release_id: str, here: OnnxContentEncoder) -> RemoteContentEncoder:
    return RemoteContentEncoder(client, release_id, here.space_ids, timeout_s=WAIT_S)


def test_its_vectors_are_to_the_bit_those_of_the_encoder_in_this_process(
    there: RemoteContentEncoder, here: OnnxContentEncoder
) -> None:
    texts = ["red shoes", "ember flame", "ünïcode ✓", "word " * 3000]
    photos = [saved(picture()), *(content for name, content in hostile_files(60, 3) if is_valid(name))]
    for text in texts:
        assert there.encode_text(text).tobytes() == here.encode_text(text).tobytes()
    for photo in photos:
        assert there.encode_image(photo).tobytes() == here.encode_image(photo).tobytes()
    assert there.encode_text("red shoes").dtype == np.float32
    assert there.space_ids == here.space_ids


def test_many_requests_share_one_connection_and_each_gets_its_own_vector(
    client: EncoderClient, there: RemoteContentEncoder, here: OnnxContentEncoder, release_id: str
) -> None:
    there.encode_text("its encoders are open now")
    texts = [f"item number {number}" for number in range(40)]

    async def all_at_once() -> list[np.ndarray]:
        asked = (client.encode_text(text, release_id=release_id, timeout_s=WAIT_S) for text in texts)
        return await asyncio.gather(*asked)

    for text, vector in zip(texts, asyncio.run(all_at_once()), strict=True):
        assert vector.tobytes() == here.encode_text(text).tobytes()


def test_a_hostile_picture_is_the_requests_fault_and_harms_nobody_else(
    there: RemoteContentEncoder, client: EncoderClient, here: OnnxContentEncoder, process: Process
) -> None:
    for hostile in (
        png_bomb(30_000, 30_000, depth=1, colour=0),
        b"GIF89a....",
        b"",
        b"\x00" * 1000,
        saved(picture())[:100],
    ):
        with pytest.raises(InvalidRequest) as refused:
            there.encode_image(hostile)
        assert refused.value.field == "/image"
    assert there.encode_text("after it").tobytes() == here.encode_text("after it").tobytes()
    assert there.encode_image(saved(picture())).tobytes() == here.encode_image(saved(picture())).tobytes()
    assert client.status(WAIT_S).pid == process.pid


def test_what_a_release_cannot_encode_and_releases_that_are_none_are_told_apart(
    client: EncoderClient, there: RemoteContentEncoder, release_id: str
) -> None:
    with pytest.raises(InvalidRequest, match="no audio encoder"):
        there.encode_audio(b"RIFF")
    with pytest.raises(MissingArtifact, match="no release"):
        client.ask("text", "hello", release_id="f" * 64, timeout_s=WAIT_S)
    with pytest.raises(TooLarge):
        there.encode_image(b"x" * (MAX_BYTES + 1))
    other = RemoteContentEncoder(client, release_id, {"text": "another space"}, timeout_s=WAIT_S)
    with pytest.raises(SpaceMismatch):
        other.encode_text("hello")


def test_a_text_is_encoded_once_and_hits_are_counted(process: Process, connect: Connect, release_id: str) -> None:
    telemetry = Telemetry()
    client, other = connect(telemetry, cached_texts=10), connect(telemetry)

    async def twice() -> None:
        first = await client.encode_text("once", release_id=release_id, timeout_s=WAIT_S)
        again = await client.encode_text("once", release_id=release_id, timeout_s=WAIT_S)
        elsewhere = await other.encode_text("once", release_id=release_id, timeout_s=WAIT_S)
        assert first.tobytes() == again.tobytes() == elsewhere.tobytes()

    # An encoder that is just being opened refuses at the end of the time given: it is waited for here.
    client.ask("text", "its encoders are open now", release_id=release_id, timeout_s=WAIT_S)
    asyncio.run(twice())
    status = client.status(WAIT_S)
    assert (status.n_encoded, status.n_cached) == (2, 1)
    text = telemetry.rendered().decode()
    assert 'recsys_cache_requests_total{cache="query_text",result="hit"} 1.0' in text
    assert 'recsys_cache_requests_total{cache="encoder_process",result="hit"} 1.0' in text


def test_kill_9_in_the_middle_of_requests_is_told_at_once_and_a_new_process_serves_the_same_client(
    start: Start, released: Workspace, client: EncoderClient, there: RemoteContentEncoder, release_id: str,
    process: Process, socket: Path,
) -> None:  # fmt: skip
    there.encode_text("its encoders are open now")

    async def killed() -> list[object]:
        asked = [
            asyncio.create_task(client.encode_text(f"text {number} " * 500, release_id=release_id, timeout_s=WAIT_S))
            for number in range(40)
        ]
        await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), WAIT_S / 2)

    results = asyncio.run(killed())
    assert any(isinstance(result, EncoderUnavailable) for result in results)
    assert all(isinstance(result, np.ndarray | EncoderUnavailable) for result in results)
    process.wait()
    with pytest.raises(EncoderUnavailable, match="no encoder process listens"):
        asyncio.run(client.encode_text("dead", release_id=release_id, timeout_s=WAIT_S))
    socket.unlink()  # so that `start` waits for the new one; the process itself would replace it
    start("serving.encoding", "--workspace", str(released.root))
    assert len(there.encode_text("alive")) > 0


def test_a_process_that_starts_replaces_the_socket_of_one_that_was_killed(
    start: Start, released: Workspace, process: Process, client: EncoderClient
) -> None:
    process.kill()
    process.wait()
    second = start("serving.encoding", "--workspace", str(released.root))
    soon(lambda: answers(client), within_s=WAIT_S)
    assert client.status(WAIT_S).pid == second.pid


def test_what_is_no_message_ends_its_own_connection_only(
    socket: Path, client: EncoderClient, there: RemoteContentEncoder
) -> None:
    there.encode_text("its encoders are open now")
    another_protocol, half_a_length = b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00"
    no_message, cut_off = struct.pack(">I", 5) + b"\xff" * 5, struct.pack(">I", 3) + b"\x93\xa6"
    noise = np.random.default_rng(0)
    random = [struct.pack(">I", 40) + noise.bytes(40) for _ in range(50)]
    for sent in (another_protocol, half_a_length, no_message, cut_off, *random):
        with sockets.socket(sockets.AF_UNIX) as stranger:
            stranger.settimeout(WAIT_S)
            stranger.connect(str(socket))
            stranger.sendall(sent)
            stranger.shutdown(sockets.SHUT_WR)
            assert stranger.recv(1) == b""
    assert len(there.encode_text("still here")) > 0


def test_other_users_can_neither_open_the_socket_nor_look_into_its_folder(process: Process, socket: Path) -> None:
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    if os.getuid() != 0:
        pytest.skip("only root can try as somebody else")
    socket.parent.chmod(0o755)  # the mode of the socket alone must do
    for folder in list(socket.parents)[1:-1]:
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    connect = f"import os, socket; os.setuid(65534); socket.socket(socket.AF_UNIX).connect({str(socket)!r})"
    tried = subprocess.run([sys.executable, "-c", connect], capture_output=True, text=True)
    assert "PermissionError" in tried.stderr


def test_sigterm_ends_it_cleanly_and_its_socket_is_gone(process: Process, socket: Path) -> None:
    process.terminate()
    assert process.wait(timeout=10) == 0
    assert not socket.exists()


def test_equal_encoders_of_two_releases_are_loaded_once_and_only_two_releases_are_held(
    start: Start, connect: Connect, released: Workspace, tmp_path: Path, release_id: str
) -> None:
    workspace = copied(released, tmp_path / "copy")
    others = [_with_another_figure(workspace, release_id, number) for number in range(2)]
    start("serving.encoding", "--workspace", str(workspace.root))
    client = connect()
    vectors = [
        client.ask("text", "the same", release_id=each, timeout_s=WAIT_S).tobytes() for each in (release_id, *others)
    ]
    status = client.status(WAIT_S)
    assert len(set(vectors)) == 1
    assert status.releases == tuple(others)
    assert (status.n_encoders, status.n_encoded) == (2, 1)


def _with_another_figure(workspace: Workspace, release_id: str, number: int) -> str:
    """A release that differs from this one in its report only."""
    from recsys.manifest import FileEntry, release_id_of

    store = LocalReleaseStore(workspace.root)
    manifest = store.manifest(release_id)
    paths = {name: store.open(manifest, name) for name in manifest.files}
    paths["acceptance.json"] = workspace.root / f"acceptance-{number}.json"
    paths["acceptance.json"].write_text(f'{{"number": {number}}}')
    files = {**manifest.files, "acceptance.json": FileEntry.of(paths["acceptance.json"])}
    other = manifest.model_copy(update={"files": files, "release_id": release_id_of(files)})
    store.put(paths, other)
    return other.release_id
