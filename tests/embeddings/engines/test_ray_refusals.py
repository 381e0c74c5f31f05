"""Ray, before anything is sent to it: what cannot work is refused at once, in words."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from embeddings.engines.run import EngineConfig, embed_with_engine
from recsys.errors import ConfigError, EnvironmentProblem
from tests.embeddings.engines.catalogues import options, text_spec, texts

pytest.importorskip("ray", reason="Ray is not installed (requirements/cluster.txt)")

TWO = EngineConfig(kind="ray", workers=2)


def test_a_gpu_that_ray_would_hide_is_refused_at_once(tmp_path: Path) -> None:
    spec = text_spec(tmp_path).model_copy(update={"device": "cuda"})
    with pytest.raises(ConfigError, match="--gpus-per-worker"):
        embed_with_engine(texts(9), spec, TWO, options=options())


def test_a_cluster_that_does_not_answer_is_named_at_once(tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, and listening to nothing
        nobody.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{nobody.getsockname()[1]}"
        engine = EngineConfig(kind="ray", ray_address=address)
        with pytest.raises(EnvironmentProblem, match=f"no Ray cluster at {address}.*ray start --head"):
            embed_with_engine(texts(9), text_spec(tmp_path), engine, options=options())
