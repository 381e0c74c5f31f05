"""The engine of a Ray cluster, on one that runs here: the local engine's bytes, also when an actor is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from embeddings.embed import EmbedProgress, embed_items
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import open_contents
from embeddings.fake_encoder import FakeEncoder
from tests.embeddings.engines.catalogues import (
    descendants,
    image_spec,
    markers,
    options,
    pictures,
    stored_bytes,
    text_spec,
    texts,
)

ray = pytest.importorskip("ray", reason="Ray is not installed (requirements/cluster.txt)")
pytestmark = pytest.mark.slow

TWO = EngineConfig(kind="ray", workers=2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two CPUs and little memory; jobs find it already connected."""
    from embeddings.engines import ray_engine

    with ray_engine.cluster(None, n_cpus=2, n_gpus=0):
        yield


@pytest.mark.usefixtures("cluster")
def test_two_actors_give_the_bytes_of_the_local_engine(tmp_path: Path) -> None:
    items = pictures(tmp_path / "pictures", 30)
    spec = image_spec(tmp_path / "ray", tmp_path / "pictures", decode_workers=1)
    reader = open_contents(spec)
    alone = embed_items(items, FakeEncoder("image"), tmp_path / "alone", reader=reader, options=options())
    together = embed_with_engine(items, spec, TWO, reader=reader, options=options())
    assert together.content_hashes == alone.content_hashes
    assert (together.n_encoded, together.rejected) == (alone.n_encoded, alone.rejected)
    assert stored_bytes(tmp_path / "ray") == stored_bytes(tmp_path / "alone")


@pytest.mark.usefixtures("cluster")
def test_an_actor_killed_midway_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    n_texts = 600
    embed_items(texts(n_texts), FakeEncoder("text"), tmp_path / "undisturbed", options=options())
    killed: list[int] = []

    def kill_one(progress: EmbedProgress) -> None:
        if progress.n_encoded and not killed:
            killed.extend(pid for pid, command in descendants(os.getpid()) if "ShardActor" in command)
            assert len(markers(tmp_path / "ray")) < n_texts // 6, "it would be killed too late to be missed"
            os.kill(killed[0], signal.SIGKILL)

    report = embed_with_engine(
        texts(n_texts), text_spec(tmp_path / "ray"), TWO, options=options(), on_progress=kill_one
    )
    assert killed
    assert report.n_encoded == n_texts - 3
    assert stored_bytes(tmp_path / "ray") == stored_bytes(tmp_path / "undisturbed")
