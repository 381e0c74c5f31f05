"""Worlds whose explanation is known: an item's vector is the sum of what is known of it, each kind on axes of its own,
and the query is the mean of the history. So a similarity is a sum over the kinds, and each gets its own term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.budget import UNLIMITED, Budget, StageCosts
from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.errors import ArtifactError
from recsys.explanations.towers import MAX_ITEM_CALLS
from recsys.features.blend import Blend
from recsys.filtering import FilterConfig
from recsys.inference.ranker import OnnxRanker
from recsys.live import CatalogView, view_of
from recsys.ports import LiveItem
from recsys.rank_items import list_items, rank_items
from recsys.ranking import RankConfig
from recsys.recommender import RecommenderConfig, recommend
from recsys.release import IdVectors, LoadedRelease
from recsys.reranking import RerankConfig
from recsys.reranking.config import Boost, SurfaceRules
from recsys.trace import StageTrace
from recsys.types import HistoryItem, Query, Slate, SlateItem
from tests.worlds.flaky_store import FlakyStore
from tests.worlds.in_memory import Floats, MeanOfHistory, SumOfParts, in_memory_release, neighbours_of, space
from tests.worlds.rankers import write_ranker

NOW = datetime(2026, 5, 1, tzinfo=UTC)
D = 8  # axes 0 and 1 are of behaviour, 2 and 3 of pictures, 4 and 5 of words, 6 and 7 of sounds
N = 6
BLEND = Blend(similarity_weight=2, transition_weight=3, popularity_weight=0.5, transition_unit=0.1)
NO_RULES = RecommenderConfig(rerank=RerankConfig(diversity=0), filter=FilterConfig(exclude_seen=False))
AXES = {"id": 0, "image": 2, "text": 4, "audio": 6}


def on(kind: str, *items: tuple[float, float] | None) -> tuple[Floats, NDArray[np.bool_]]:
    """float32 [N, D] on the axes of a kind, and bool [N]; None for an item without it."""
    vectors = np.zeros((N, D), np.float32)
    present = np.zeros(N, np.bool_)
    for row, place in enumerate(items):
        if place is not None:
            vectors[row, AXES[kind] : AXES[kind] + 2], present[row] = place, True
    return vectors, present


def world(
    *,
    ids: Sequence[tuple[float, float] | None] = (),
    image: Sequence[tuple[float, float] | None] = (),
    text: Sequence[tuple[float, float] | None] = (),
    more: Mapping[str, Sequence[tuple[float, float] | None]] | None = None,
    **release: Any,
) -> LoadedRelease:
    """Items `i0`.. `i5` with these vectors."""
    id_vectors, has_id = on("id", *ids)
    content = {"image": on("image", *image), "text": on("text", *text)}
    content |= {name: on(name, *places) for name, places in (more or {}).items()}
    spaces = {name: space(name, D) for name in content}
    return in_memory_release(
        [CatalogItem(f"i{row}") for row in range(N)],
        id_vectors + np.sum([vectors for vectors, _ in content.values()], axis=0, dtype=np.float32),
        modalities=tuple(
            Modality(name, spaces[name].space_id, vectors, present) for name, (vectors, present) in content.items()
        ),
        spaces=spaces,
        query_encoder=release.pop("query_encoder", MeanOfHistory(D)),
        item_encoder=release.pop("item_encoder", SumOfParts(D)),
        id_vectors=release.pop("id_vectors", IdVectors(id_vectors, has_id)),
        blend=BLEND,
        **release,
    )


def ask(
    of: LoadedRelease | CatalogView,
    *history: str,
    config: RecommenderConfig = NO_RULES,
    budget: Budget = UNLIMITED,
    user_id: str | None = None,
) -> Slate:
    catalog = of if isinstance(of, CatalogView) else view_of(of)
    past = tuple(HistoryItem(item_id) for item_id in history)
    query = Query("request", NOW, user_id=user_id, history=past, limit=30, explain=True)
    return recommend(query, catalog, FlakyStore(), config, budget=budget)


def by_id(slate: Slate) -> dict[str, SlateItem]:
    return {item.item_id: item for item in slate.items}


def parts_of(slate: Slate, item_id: str) -> dict[str, float]:
    """The parts of one item, that add up; those that are nothing are left out."""
    item = by_id(slate)[item_id]
    assert sum(item.parts.values()) == pytest.approx(item.value, abs=1e-6)
    return {name: part for name, part in item.parts.items() if abs(part) > 1e-6}


def near(expected: dict[str, float]) -> Any:
    return pytest.approx(expected, abs=1e-5)


# The parts


def test_a_value_that_comes_from_pictures_alone_is_all_of_the_picture() -> None:
    slate = ask(world(image=[(1, 0), (0.6, 0.8), None]), "i0")
    assert slate.degraded == ()
    assert parts_of(slate, "i1") == near({"image": 2 * 0.6})
    assert parts_of(slate, "i2") == {}
    assert set(by_id(slate)["i2"].parts) == {"behaviour", "image", "text", "popularity", "rules", "base"}


def test_each_kind_gets_its_own_and_what_an_item_has_not_gives_it_nothing() -> None:
    shop = world(ids=[(1, 1), (2, 0), None], image=[(0, 1), None, (0, 3)], text=[(1, 0), (-1, 0), (0.5, 9)])
    slate = ask(shop, "i0")
    assert parts_of(slate, "i1") == near({"behaviour": 2 * 2, "text": -2 * 1})
    assert parts_of(slate, "i2") == near({"image": 2 * 3, "text": 2 * 0.5})


def test_what_follows_the_history_is_behaviour_too() -> None:
    following = neighbours_of([[(1, 0.4)], [], [], [], [], []])
    slate = ask(world(ids=[(1, 0), (0.5, 0)], neighbours=following), "i0")
    assert parts_of(slate, "i1") == near({"behaviour": 2 * 0.5 + 3 * math.log(1 + 0.4 / 0.1)})


def test_popularity_alone_is_popularity() -> None:
    slate = ask(world(counts=[0, 7, 0, 0, 0, 0]))
    assert parts_of(slate, "i1") == near({"popularity": 0.5 * math.log(1 + 7)})
    assert parts_of(slate, "i2") == {}


def test_rules_are_what_a_boost_gave() -> None:
    rules = SurfaceRules(boosts=(Boost(when='item_id = "i1"', multiply=2.0, add=0.25),))
    boosting = NO_RULES.model_copy(update={"rerank": RerankConfig(diversity=0, rules=rules)})
    slate = ask(world(image=[(1, 0), (0.6, 0.8)]), "i0", config=boosting)
    assert parts_of(slate, "i1") == near({"image": 2 * 0.6, "rules": 2 * 0.6 + 0.25})
    assert parts_of(slate, "i0") == near({"image": 2})


def test_a_profile_is_words() -> None:
    class ProfileIsPlace(MeanOfHistory):
        def encode(self, history: Floats, event_types: NDArray[np.int64], user_text: Floats | None = None) -> Floats:
            return np.zeros(D, np.float32) if user_text is None else user_text

    profile = np.zeros(D, np.float32)
    profile[[0, 4]] = 1  # it says something of words, and of who buys what
    shop = world(ids=[(3, 0)], text=[(5, 0)], query_encoder=ProfileIsPlace(D), profiles={"ann": profile})
    # the words of the item count only with the profile's; behaviour and the profile share what they bring together
    assert parts_of(ask(shop, user_id="ann"), "i0") == near({"behaviour": 3, "text": 2 * 5 + 3})
    assert parts_of(ask(shop, user_id="bob"), "i0") == {}


def test_categories_are_words() -> None:
    class CategoriesArePlace(SumOfParts):
        def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
            place = np.zeros(D, np.float32)
            place[4:6] = categories
            return super().encode_new({**vectors, "categories": place}, categories)

    items = [CatalogItem("i0", categories=("Drama",)), CatalogItem("i1", categories=("War", "Drama", "Other"))]
    vectors = np.zeros((2, D), np.float32)
    vectors[:, 4:6] = [[1, 0], [1, 1]]
    shop = in_memory_release(
        items, vectors, category_names=("Drama", "War"), query_encoder=MeanOfHistory(D), blend=BLEND,
        item_encoder=CategoriesArePlace(D), id_vectors=IdVectors(np.zeros((2, D), np.float32), np.zeros(2, np.bool_)),
    )  # fmt: skip
    new = LiveItem("new", {"item_id": "new", "categories": ["War"]}, {}, {})
    slate = ask(view_of(shop, [new]), "i1")
    assert slate.degraded == ()
    assert set(by_id(slate)["i0"].parts) == {"behaviour", "text", "popularity", "rules", "base"}
    assert parts_of(slate, "i0") == near({"text": 2})
    assert parts_of(slate, "new") == near({"text": 2})


def test_an_item_that_came_after_the_release_is_explained_by_its_content() -> None:
    shop = world(ids=[(1, 0)], image=[(0, 2)])
    picture, _ = on("image", (0, 3))
    new = LiveItem("new", {"item_id": "new"}, {"image": picture[0]}, {"image": space("image", D).space_id})
    slate = ask(view_of(shop, [new]), "i0")
    assert slate.degraded == ()
    assert parts_of(slate, "new") == near({"image": 2 * 6})


class Counting(SumOfParts):
    """Counts its calls for many items at once."""

    n_batches = 0

    def encode_batch(self, *arguments: Any) -> Floats:
        self.n_batches += 1
        return super().encode_batch(*arguments)


@pytest.mark.parametrize("sounds", [(), ("audio",)])
def test_however_many_kinds_there_are_the_towers_are_called_a_few_times(sounds: tuple[str, ...]) -> None:
    tower = Counting(D)
    kinds = {name: [(1.0, 0.0), (0.5, 0.0)] for name in sounds}
    slate = ask(world(ids=[(1, 0)], image=[(1, 0), (1, 0)], more=kinds, item_encoder=tower), "i0", "i1")
    assert 0 < tower.n_batches <= MAX_ITEM_CALLS
    assert set(sounds) < set(by_id(slate)["i0"].parts)
    for item in slate.items:
        parts_of(slate, item.item_id)


# What of the history


def test_because_names_what_an_item_would_lose_most_without() -> None:
    shop = world(image=[(1, 0), (0, 1), (0.9, 0.1), (0.1, 0.9), (-1, 0)])
    items = by_id(ask(shop, "i0", "i1"))
    assert items["i2"].because == ("i0",)
    assert items["i3"].because == ("i1",)
    assert items["i5"].because == ()  # nothing is known of it, and nothing leads to it


def test_because_counts_what_follows_as_well() -> None:
    following = neighbours_of([[], [(3, 0.5)], [], [], [], []])
    items = by_id(ask(world(image=[(1, 0)], neighbours=following), "i0", "i1"))
    assert items["i3"].because == ("i1",)


def test_because_names_each_item_once_and_three_at_most() -> None:
    shop = world(image=[(1, 0), (2, 0), (3, 0), (4, 0), (-9, 0), (1, 0)])
    # of 4, 1, 3, 4, 2 and -9 the mean is 5/6; without both 4s it is -3/4, without 3 2/5, without 2 3/5, without 1 4/5
    assert by_id(ask(shop, "i3", "i0", "i2", "i3", "i1", "i4"))["i5"].because == ("i3", "i2", "i1")
    assert by_id(ask(shop, "i3", "i4", "i3"))["i5"].because == ("i3",)


def test_without_a_history_there_is_nothing_to_name() -> None:
    assert all(item.because == () for item in ask(world(image=[(1, 0)])).items)


# When something is missing


def test_a_release_without_towers_is_explained_by_what_follows_and_what_is_popular() -> None:
    following = neighbours_of([[(1, 0.4)], [], [], [], [], []])
    bare = world(counts=[0, 7, 0, 0, 0, 0], neighbours=following, query_encoder=None, item_encoder=None)
    slate = ask(replace(bare, id_vectors=None), "i0")
    assert slate.degraded == ("encode",)
    expected = {"behaviour": 3 * math.log(1 + 0.4 / 0.1), "popularity": 0.5 * math.log(1 + 7)}
    assert parts_of(slate, "i1") == near(expected)
    assert by_id(slate)["i1"].because == ("i0",)


def whole(slate: Slate, fallback: str) -> Slate:
    """That the similarity is one part, and why."""
    assert slate.degraded == ("explain",)
    assert [stage.fallback for stage in slate.trace if stage.name == "explain"] == [fallback]
    assert parts_of(slate, "i1") == near({"similarity": 2 * 0.6, "popularity": 0.5 * math.log(1 + 7)})
    return slate


def pictures(**release: Any) -> LoadedRelease:
    return world(image=[(1, 0), (0.6, 0.8)], counts=[0, 7, 0, 0, 0, 0], **release)


def test_a_release_without_id_vectors_is_explained_more_coarsely() -> None:
    slate = whole(ask(pictures(id_vectors=None), "i0"), "no_id_vectors")
    assert by_id(slate)["i1"].because == ("i0",)


def test_an_item_tower_that_fails_makes_it_coarser() -> None:
    class Failing(SumOfParts):
        def encode_batch(self, *arguments: Any) -> Floats:
            raise ArtifactError("a tower failed on its input")

    whole(ask(pictures(item_encoder=Failing(D)), "i0"), "tower_failed")


def test_a_query_tower_that_fails_on_many_still_leaves_parts_that_add_up() -> None:
    class NotFinite(MeanOfHistory):
        def encode_many(self, histories: Floats, *arguments: Any) -> Floats:
            return np.full((len(histories), D), np.nan, np.float32)

    slate = whole(ask(pictures(query_encoder=NotFinite(D)), "i0"), "tower_failed")
    assert by_id(slate)["i1"].because == ()


def test_towers_that_do_not_give_what_was_served_are_not_believed() -> None:
    class Other(SumOfParts):
        def encode_batch(self, *arguments: Any) -> Floats:
            return super().encode_batch(*arguments) + np.float32(0.1)

    whole(ask(pictures(item_encoder=Other(D)), "i0"), "not_reproduced")


def test_without_time_the_parts_are_the_simple_ones() -> None:
    costs = StageCosts()
    costs.note([StageTrace("explain", 1000.0, 1, 1)], {"explain"})
    slate = whole(ask(pictures(), "i0", budget=Budget(500.0, costs)), "no_time")
    assert by_id(slate)["i1"].because == ()


def test_who_does_not_ask_pays_nothing() -> None:
    tower = Counting(D)
    query = Query("request", NOW, history=(HistoryItem("i0"),))
    slate = recommend(query, view_of(pictures(item_encoder=tower)), FlakyStore(), NO_RULES)
    assert tower.n_batches == 0
    assert all(item.parts == {} and item.because == () for item in slate.items)
    assert "explain" not in [stage.name for stage in slate.trace]


# Other routes


def test_given_items_are_explained_as_recommended_ones() -> None:
    query = Query("request", NOW, history=(HistoryItem("i0"),), explain=True)
    slate = rank_items(["i1", "i2"], query, view_of(pictures()), FlakyStore(), NO_RULES)
    assert parts_of(slate, "i1") == near({"image": 2 * 0.6, "popularity": 0.5 * math.log(1 + 7)})
    assert [stage.name for stage in slate.trace][-2:] == ["explain", "expose"]


def test_a_list_is_valued_by_one_thing_alone() -> None:
    query = Query("request", NOW, explain=True)
    rows, values = np.array([1, 2]), np.array([0.5, 0.25], np.float32)
    slate = list_items(rows, values, "trending", query, view_of(pictures()), FlakyStore(), NO_RULES)
    assert [item.parts for item in slate.items] == [{"relevance": 0.5}, {"relevance": 0.25}]


# A learned ranker


def ranked(tmp_path: Path, **release: Any) -> LoadedRelease:
    """Ranks by p_click = sigmoid(similarity + 2 * transition + 3 * log popularity - 1)."""
    path = write_ranker(tmp_path / "ranker.onnx", {"p_click": (1, 2, 3, 0)}, {"p_click": -1})
    return replace(pictures(**release), ranker=OnnxRanker(path))


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_a_rankers_value_is_shared_among_those_that_make_it(tmp_path: Path) -> None:
    config = NO_RULES.model_copy(update={"rank": RankConfig(value={"p_click": 10.0})})
    slate = ask(ranked(tmp_path), "i0", config=config)
    assert slate.degraded == ()
    popular = 3 * math.log(1 + 7)
    nothing, image, popularity, both = (10 * sigmoid(x - 1) for x in (0, 0.6, popular, 0.6 + popular))
    assert by_id(slate)["i1"].value == pytest.approx(both, abs=1e-5)
    assert parts_of(slate, "i1") == near(
        {
            "base": nothing,
            "image": ((image - nothing) + (both - popularity)) / 2,
            "popularity": ((popularity - nothing) + (both - image)) / 2,
        }
    )
    assert by_id(slate)["i1"].because == ("i0",)


def test_where_the_blend_stood_in_for_the_ranker_the_blend_is_explained(tmp_path: Path) -> None:
    costs = StageCosts()
    costs.note([StageTrace("rank", 1000.0, 1, 1)], {"rank"})
    slate = ask(ranked(tmp_path), "i0", budget=Budget(500.0, costs))
    assert slate.degraded == ("rank",)
    assert parts_of(slate, "i1") == near({"image": 2 * 0.6, "popularity": 0.5 * math.log(1 + 7)})


def test_a_ranker_that_fails_while_explaining_leaves_the_value_as_one(tmp_path: Path) -> None:
    class Once(OnnxRanker):
        n_calls = 0

        def predict(self, features: Floats, query: Floats | None = None) -> Mapping[str, Floats]:
            self.n_calls += 1
            if self.n_calls > 1:
                raise ArtifactError("the ranker failed on its input")
            return super().predict(features, query)

    shop = ranked(tmp_path)
    slate = ask(replace(shop, ranker=Once(tmp_path / "ranker.onnx")), "i0")
    assert slate.degraded == ("explain",)
    assert parts_of(slate, "i1") == near({"base": by_id(slate)["i1"].value})
