from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recsys.errors import ArtifactError, CorruptArtifact
from recsys.inference.ranker import OnnxRanker
from tests.recsys.inference.test_towers import query_tower
from tests.worlds.rankers import logistic, write_ranker

CLICK, BUY = [2.0, 1.0, 0.1, -0.5], [1.0, 3.0, 0.0, 0.0]
RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((200, 4)).astype(np.float32)


def test_probabilities_are_those_of_the_regression_by_name(tmp_path: Path) -> None:
    path = write_ranker(tmp_path / "ranker.onnx", {"p_click": CLICK, "p_buy": BUY}, {"p_buy": -2.0})
    ranker = OnnxRanker(path)
    assert ranker.feature_names == ("similarity", "transition", "log_popularity", "is_new")
    assert ranker.output_names == ("p_click", "p_buy")
    assert ranker.query_dim == 0
    answer = ranker.predict(FEATURES)
    assert list(answer) == ["p_click", "p_buy"]
    np.testing.assert_allclose(answer["p_click"], logistic(FEATURES, CLICK), atol=1e-6)
    np.testing.assert_allclose(answer["p_buy"], logistic(FEATURES, BUY, -2.0), atol=1e-6)
    assert answer["p_buy"].dtype == np.float32


def test_a_candidate_is_judged_alone(tmp_path: Path) -> None:
    ranker = OnnxRanker(write_ranker(tmp_path / "ranker.onnx", {"p_click": CLICK}))
    together = ranker.predict(FEATURES)["p_click"]
    assert np.allclose(ranker.predict(FEATURES[3:4])["p_click"], together[3:4])
    assert ranker.predict(FEATURES[:0])["p_click"].shape == (0,)


def test_the_query_vector_is_read_where_the_ranker_wants_it_and_none_is_zeros(tmp_path: Path) -> None:
    ranker = OnnxRanker(write_ranker(tmp_path / "ranker.onnx", {"p_click": CLICK}, query_dim=3))
    assert ranker.query_dim == 3
    query = np.array([1.0, -0.5, 0.25], np.float32)
    np.testing.assert_allclose(ranker.predict(FEATURES, query)["p_click"], logistic(FEATURES, CLICK, 0.75), atol=1e-6)
    np.testing.assert_allclose(ranker.predict(FEATURES)["p_click"], logistic(FEATURES, CLICK), atol=1e-6)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_what_is_no_number_is_an_artifact_error(tmp_path: Path, broken: float) -> None:
    ranker = OnnxRanker(write_ranker(tmp_path / "ranker.onnx", {"p_click": [broken, 0, 0, 0]}))
    with pytest.raises(ArtifactError, match="p_click is no number"):
        ranker.predict(np.zeros((2, 4), np.float32))


def test_input_that_does_not_fit_is_an_artifact_error(tmp_path: Path) -> None:
    ranker = OnnxRanker(write_ranker(tmp_path / "ranker.onnx", {"p_click": CLICK}))
    with pytest.raises(ArtifactError, match="the ranker failed"):
        ranker.predict(np.zeros((2, 5), np.float32))


def test_a_file_that_is_no_ranker_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "ranker.onnx").write_bytes(b"not a graph")
    with pytest.raises(CorruptArtifact, match=r"ranker\.onnx"):
        OnnxRanker(tmp_path / "ranker.onnx")
    with pytest.raises(CorruptArtifact, match="no ranker, it reads history"):
        OnnxRanker(query_tower(tmp_path))


def test_a_ranker_must_name_what_it_reads(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match="does not name its features"):
        OnnxRanker(write_ranker(tmp_path / "ranker.onnx", {"p": CLICK}, named=False))
