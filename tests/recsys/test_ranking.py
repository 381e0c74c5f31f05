from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalog import CatalogItem
from recsys.errors import ArtifactError
from recsys.history import History
from recsys.inference.ranker import OnnxRanker
from recsys.live import CatalogView, view_of
from recsys.ports import LiveItem
from recsys.ranking import SOURCE_SAYS, RankConfig, learned_value, rank_features, reasons_of
from recsys.retrieval import SOURCES
from recsys.types import Candidates
from tests.worlds.in_memory import ContentIsPlace, Floats, MeanOfHistory, in_memory_release, neighbours_of
from tests.worlds.rankers import write_ranker

N = 6


def world(
    following: Sequence[Sequence[tuple[int, float]]] = ((),) * N,
    vectors: Floats | None = None,
    live: Sequence[LiveItem] = (),
) -> CatalogView:
    """Items `i0`.. with titles, but for `i1`; each lies on an axis of its own unless vectors are given."""
    items = [CatalogItem(f"i{row}", title=None if row == 1 else f"Title {row}") for row in range(N)]
    release = in_memory_release(
        items,
        np.eye(N, dtype=np.float32) if vectors is None else vectors,
        counts=[9, 0, 0, 0, 0, 1],
        neighbours=neighbours_of(following),
        query_encoder=MeanOfHistory(N),
        item_encoder=ContentIsPlace(N),
    )
    return view_of(release, live)


def past(rows: Sequence[int]) -> History:
    """The history of these rows, oldest first, with nothing seen or blocked."""
    nothing = np.empty(0, np.uint64)
    return History(np.array(rows, dtype=np.int64), np.ones(len(rows), np.int64), nothing, nothing)


def candidates(rows: Sequence[int], similarity: Sequence[float] | None = None) -> Candidates:
    floats = np.zeros(len(rows), np.float32) if similarity is None else np.array(similarity, np.float32)
    return Candidates(np.array(rows, dtype=np.int64), floats, np.ones(len(rows), np.int64), floats)


def reasons(
    catalog: CatalogView, history: Sequence[int], rows: Sequence[int], source: str = "ann"
) -> list[tuple[str, ...]]:
    return reasons_of(past(history), candidates(rows), [source] * len(rows), catalog)


def test_features_are_similarity_transition_and_popularity() -> None:
    catalog = world([[(1, 0.5), (2, 0.25)], [(2, 0.5)], [], [], [], []], live=[LiveItem("new", {}, {}, {})])
    features = rank_features(past([0, 1]), candidates([2, 3, 0, 6], [0.1, 0.2, 0.3, 0.4]), catalog)
    assert features.similarity.tolist() == np.array([0.1, 0.2, 0.3, 0.4], np.float32).tolist()
    # i1 was last and leads to i2 by .5; i0 was one step earlier (.8) and leads to it by .25
    assert features.transition.tolist() == pytest.approx([0.5 + 0.8 * 0.25, 0, 0, 0])
    assert features.log_popularity.tolist() == pytest.approx([0, 0, math.log(1 + 9), 0])


def test_the_reason_is_the_history_item_that_leads_there() -> None:
    catalog = world([[(3, 0.5)], [(3, 0.45)], [(4, 0.1)], [], [], []])
    assert reasons(catalog, [0], [3]) == [("often chosen with Title 0",)]
    # i0 gives .5, one step earlier: .8 * .5 = .4; i1 gives .45 and has no title
    assert reasons(catalog, [0, 1], [3]) == [("often chosen with i1",)]
    assert reasons(catalog, [1, 2], [4, 3]) == [("often chosen with Title 2",), ("often chosen with i1",)]


def test_what_is_too_long_ago_to_vote_is_no_reason() -> None:
    catalog = world([[(3, 0.5)], [], [], [], [], []])
    window = catalog.release.neighbours.history_window
    assert reasons(catalog, [0, *[1] * (window - 1)], [3]) == [("often chosen with Title 0",)]
    assert reasons(catalog, [0, *[1] * window], [3]) == [("close to what you chose",)]


def test_an_item_that_nothing_leads_to_is_like_its_nearest_in_the_history() -> None:
    vectors = np.eye(N, dtype=np.float32)
    vectors[3] = [0.8, 0, 0.6, 0, 0, 0]
    vectors[4] = 7 * np.array([0.2, 0, 0, 0, 0.98, 0])  # its cosine to i0 is too small to name
    catalog = world(vectors=vectors)
    assert reasons(catalog, [0, 2], [3, 4]) == [("like Title 0",), ("close to what you chose",)]


def test_a_newcomer_is_called_new_as_well() -> None:
    place = {"text": np.eye(N, dtype=np.float32)[2]}
    shop = world(live=[LiveItem("new", {"title": "New"}, place, {"text": "elsewhere"})])
    assert reasons(shop, [0], [N], source="recent") == [("new",)]


@pytest.mark.parametrize(("source", "says"), SOURCE_SAYS.items())
def test_without_a_history_item_to_name_the_source_speaks(source: str, says: str) -> None:
    assert reasons(world(), [0], [3], source) == [(says,)]


def test_an_empty_history_is_never_spoken_of() -> None:
    assert reasons(world(), [], [0, 3]) == [("suggested to begin with",)] * 2
    assert reasons(world(), [], [0], "popular") == [("popular",)]


def test_every_source_has_words() -> None:
    assert set(SOURCE_SAYS) == set(SOURCES)


def test_no_candidates_no_features_and_no_reasons() -> None:
    assert reasons(world(), [0, 1], []) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, N + 1), max_size=14))
def test_votes_are_what_each_history_item_gives_added_up_and_name_who_gave_most(seed: int, history: list[int]) -> None:
    rng = np.random.default_rng(seed)
    following = [[(int(row), float(rng.random())) for row in rng.permutation(N)[:3]] for _ in range(N)]
    catalog = world(following, live=[LiveItem("new", {}, {}, {}), LiveItem("newer", {}, {}, {})])
    votes = catalog.release.neighbours.votes(past(history).rows)
    given_by: dict[int, list[tuple[float, int]]] = {}
    for back, voter in enumerate(history[::-1][: catalog.release.neighbours.history_window]):
        for row, weight in following[voter] if voter < N else []:
            given_by.setdefault(row, []).append((weight * 0.8**back, voter))
    for row in range(N + 2):
        parts = given_by.get(row, [])
        score, voter = (each.item() for each in votes.of(np.array([row])))
        assert score == pytest.approx(sum(weight for weight, _ in parts), abs=1e-6)
        most = max((weight for weight, _ in parts), default=0)
        assert voter in {who for weight, who in parts if weight == pytest.approx(most, abs=1e-7)} or voter == -1
        assert (voter == -1) == (not parts)


def with_ranker(catalog: CatalogView, path: Path, weights: Sequence[float], **options: int) -> CatalogView:
    ranker = OnnxRanker(write_ranker(path / "ranker.onnx", {"p_click": weights, "p_buy": [0, 0, 0, 0]}, **options))
    return replace(catalog, release=replace(catalog.release, ranker=ranker))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_a_learned_value_is_the_weighted_sum_of_what_the_ranker_says(tmp_path: Path) -> None:
    catalog = with_ranker(world(live=[LiveItem("new", {}, {}, {})]), tmp_path, [1, 0, 0, -3])
    features = rank_features(past([0]), candidates([2, 6], [0.5, 0.5]), catalog)
    value = learned_value(features, None, catalog, RankConfig(value={"p_click": 2, "p_buy": 10}))
    assert value is not None
    # p_buy is .5 for everything
    assert value.tolist() == pytest.approx([2 * sigmoid(0.5) + 5, 2 * sigmoid(0.5 - 3) + 5], abs=1e-5)


def test_a_ranker_that_wants_the_query_is_given_it(tmp_path: Path) -> None:
    catalog = with_ranker(world(), tmp_path, [0, 0, 0, 0], query_dim=N)
    features = rank_features(past([0]), candidates([2]), catalog)
    query = np.full(N, 0.5, np.float32)
    value = learned_value(features, query, catalog, RankConfig(value={"p_click": 1}))
    assert value is not None
    assert value.tolist() == pytest.approx([sigmoid(0.5 * N)])


def test_without_a_ranker_there_is_no_learned_value_and_a_broken_one_raises(tmp_path: Path) -> None:
    catalog = world()
    features = rank_features(past([0]), candidates([2]), catalog)
    assert learned_value(features, None, world(), RankConfig()) is None
    broken = with_ranker(world(), tmp_path, [math.nan, 0, 0, 0])
    with pytest.raises(ArtifactError):
        learned_value(features, None, broken, RankConfig())
