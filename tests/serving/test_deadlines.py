"""Parts that are slow or broken: the answer comes all the same, and says what was left out."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.budget import N_LATEST
from recsys.errors import CorruptArtifact
from recsys.index.exact import ExactIndex
from recsys.inference.ranker import OnnxRanker
from recsys.release import LoadedRelease
from recsys.trace import StageTrace
from serving.guards import FAILURES_IN_A_ROW
from tests.serving.asking import event, ids, recommend, send
from tests.serving.conftest import OpenShop
from tests.serving.shop import Parts, Shop, SlowTower, shop
from tests.serving.world import Shelf
from tests.worlds.rankers import write_ranker

BUDGETS = {"recommendations_ms": 150.0, "search_ms": 150.0, "explain_ms": 150.0}
SLOW_S = 0.2
NUMBERS = count()


class SlowIndex(ExactIndex):
    """An index that takes its time, or fails, once it is told to."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        super().__init__(vectors)
        self.delay_s, self.fails, self.n_calls = 0.0, False, 0

    def search(self, queries: Any, k: int, allowed: Any = None) -> Any:
        self.n_calls += 1
        time.sleep(self.delay_s)
        if self.fails:
            raise RuntimeError("Error in faiss: 'd == this->d' failed")
        return super().search(queries, k, allowed)


class SlowRanker:
    """A ranker of the world that takes its time, fails, or gives what is no number."""

    def __init__(self, ranker: OnnxRanker) -> None:
        self._ranker = ranker
        self.delay_s, self.fails, self.n_calls = 0.0, False, 0
        self.feature_names, self.query_dim = ranker.feature_names, ranker.query_dim

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ranker, name)

    def predict(self, features: Any, query: Any = None) -> Any:
        self.n_calls += 1
        time.sleep(self.delay_s)
        if self.fails:
            raise CorruptArtifact("the ranker gives what is no number")
        return self._ranker.predict(features, query)


@pytest.fixture
def release(tmp_path: Path) -> LoadedRelease:
    made = shop()
    ranker = SlowRanker(OnnxRanker(write_ranker(tmp_path / "ranker.onnx", {"p_click": (2.0, 1.0, 0.1, 0.0)})))
    return replace(made, index=SlowIndex(made.item_vectors), ranker=ranker)  # type: ignore[arg-type]


@pytest.fixture
def running(opened: OpenShop, release: LoadedRelease) -> Shop:
    return opened(Parts(shelf=Shelf({"r1": release})), budgets=BUDGETS)


def slates(shop: Shop, n: int) -> list[dict[str, Any]]:
    """Each for a session that is new, so that no query vector is kept."""
    found = []
    for _ in range(n):
        number = next(NUMBERS)
        history = [{"item_id": f"c{number // 10**place % 10}"} for place in range(4)]
        found.append(recommend(shop.client, history=history, limit=5))
    return found


def named(replies: list[dict[str, Any]], stage: str) -> list[bool]:
    return [stage in reply["degraded"] for reply in replies]


def test_a_slow_query_tower_is_left_out_from_the_second_request_on_and_tried_again_later(
    running: Shop, release: LoadedRelease
) -> None:
    tower = release.query_encoder
    assert isinstance(tower, SlowTower)
    tower.delay_s = SLOW_S
    before = tower.n_calls
    replies = slates(running, 4)
    assert named(replies, "encode") == [False, True, True, True]
    assert tower.n_calls == before + 1
    assert all(reply["items"] for reply in replies)
    tower.delay_s = 0
    later = named(slates(running, 60), "encode")
    assert later[0]
    assert not later[-1]
    assert later == sorted(later, reverse=True)  # one try that was fast, and it is asked always


def test_a_query_vector_that_is_kept_is_used_although_the_tower_is_too_slow(
    running: Shop, release: LoadedRelease
) -> None:
    tower = release.query_encoder
    assert isinstance(tower, SlowTower)
    send(running.client, event("u", "c1"))
    assert recommend(running.client, user_id="u")["degraded"] == []
    tower.delay_s = SLOW_S
    slates(running, 2)
    reply = recommend(running.client, user_id="u", limit=3)
    assert "encode" not in reply["degraded"]
    assert ids(reply)[0].startswith("c")


def test_kept_query_vectors_do_not_make_a_slow_tower_look_fast(running: Shop, release: LoadedRelease) -> None:
    tower = release.query_encoder
    assert isinstance(tower, SlowTower)
    send(running.client, event("u", "c1"))
    recommend(running.client, user_id="u")
    tower.delay_s = SLOW_S
    slates(running, 3)
    before = running.service.costs.expected_ms("encode")
    assert before > BUDGETS["recommendations_ms"]
    for _ in range(50):
        recommend(running.client, user_id="u")
    assert running.service.costs.expected_ms("encode") == before


def test_a_slow_index_is_left_out_and_the_other_sources_answer(running: Shop, release: LoadedRelease) -> None:
    index = release.index
    assert isinstance(index, SlowIndex)
    index.delay_s = SLOW_S
    before = index.n_calls
    replies = slates(running, 4)
    assert named(replies, "retrieve")[-1]
    assert index.n_calls < before + 4
    assert all(len(reply["items"]) == 5 for reply in replies)
    index.delay_s = 0
    assert not named(slates(running, 100), "retrieve")[-1]


def test_a_slow_ranker_is_left_out_and_the_blend_ranks(running: Shop, release: LoadedRelease) -> None:
    ranker: Any = release.ranker
    ranker.delay_s = SLOW_S
    replies = slates(running, 4)
    assert named(replies, "rank")[-1]
    assert all(len(reply["items"]) == 5 for reply in replies)
    assert all(item["item_id"].startswith("c") for item in replies[-1]["items"][:3])
    ranker.delay_s = 0
    assert not named(slates(running, 100), "rank")[-1]


def test_diversity_that_is_too_slow_is_left_out(running: Shop) -> None:
    running.service.costs.note([StageTrace("choose", 1000.0, 1, 1)] * N_LATEST, {"choose"})
    reply = slates(running, 1)[0]
    assert reply["degraded"] == ["choose"]
    values = [item["value"] for item in reply["items"]]
    assert values == sorted(values, reverse=True)
    assert not named(slates(running, 100), "choose")[-1]


def test_an_index_that_fails_is_left_alone_after_three_times_and_asked_again_later(
    running: Shop, release: LoadedRelease
) -> None:
    index = release.index
    assert isinstance(index, SlowIndex)
    index.fails = True
    before = index.n_calls
    replies = slates(running, 10)
    assert all(named(replies, "retrieve"))
    assert all(len(reply["items"]) == 5 for reply in replies)
    assert index.n_calls == before + FAILURES_IN_A_ROW
    index.fails = False
    running.service.index_guard._closed_until = 0.0  # as if the pause were over
    assert not any(named(slates(running, 5), "retrieve"))


def test_a_ranker_that_fails_is_left_alone_after_three_times_and_asked_again_later(
    running: Shop, release: LoadedRelease
) -> None:
    ranker: Any = release.ranker
    ranker.fails = True
    before = ranker.n_calls
    replies = slates(running, 10)
    assert all(named(replies, "rank"))
    assert ranker.n_calls == before + FAILURES_IN_A_ROW
    ranker.fails = False
    running.service.ranker_guard._closed_until = 0.0
    assert not any(named(slates(running, 5), "rank"))


def test_nothing_works_and_there_is_an_answer(running: Shop, release: LoadedRelease) -> None:
    index, ranker, tower = release.index, release.ranker, release.query_encoder
    assert isinstance(index, SlowIndex)
    index.fails = ranker.fails = True  # type: ignore[union-attr]
    tower.encode = _fails  # type: ignore[method-assign, union-attr]
    running.store.up = False
    reply = recommend(running.client, user_id="u", history=[{"item_id": "c1"}], limit=30)
    assert len(reply["items"]) == 29
    assert set(reply["degraded"]) >= {"hydrate", "encode", "rank", "expose"}
    for path in ("/v1/popular", "/v1/items/c1/similar"):
        assert running.get(path, user_id="u", limit=3).json()["items"]
    for body in ({"item_id": "c1"}, {"vector": [1.0] * 8, "modality": "item"}, {"text": "gamma"}):
        assert running.post("/v1/search", user_id="u", **body).status_code == 200
    assert "retrieve" in running.post("/v1/search", item_id="c1").json()["degraded"]
    assert running.post("/v1/refine", item_id="c1", text="alpha").json()["items"]
    assert running.post("/v1/rank", item_ids=["c1", "c2"], user_id="u").json()["items"]


def _fails(*given: Any) -> Any:
    raise CorruptArtifact("the tower cannot be used")
