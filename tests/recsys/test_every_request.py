"""What holds for every request, over random worlds: towers that work, fail or are not there; a store that answers or
does not; quotas that run dry; items that were hidden, changed, deleted or added since the release."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings

from recsys.recommender import recommend
from recsys.reranking import RerankConfig
from recsys.retrieval import SOURCES
from recsys.types import Slate
from tests.worlds.random_world import RandomWorld, random_worlds

STAGES = ["hydrate", "encode", "retrieve", "filter", "rank", "choose", "expose"]


def answer(world: RandomWorld) -> Slate:
    return recommend(world.query, world.catalog, world.store, world.config)


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


@settings(max_examples=150, deadline=None)
@given(random_worlds())
def test_a_hidden_deleted_expired_future_blocked_excluded_or_seen_item_never_returns(world: RandomWorld) -> None:
    assert set(ids(answer(world))) <= world.allowed


@settings(max_examples=150, deadline=None)
@given(random_worlds())
def test_every_place_is_filled_while_there_is_an_allowed_item_and_none_comes_twice(world: RandomWorld) -> None:
    slate = answer(world)
    assert len(ids(slate)) == min(world.query.limit, len(world.allowed))
    assert len(set(ids(slate))) == len(slate.items)
    assert [item.position for item in slate.items] == list(range(len(slate.items)))


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_each_item_says_where_it_is_from_and_why_it_is_there(world: RandomWorld) -> None:
    slate = answer(world)
    assert all(item.source in SOURCES for item in slate.items)
    assert all(item.reasons and all(reason.strip() for reason in item.reasons) for item in slate.items)
    assert all(math.isfinite(item.value) for item in slate.items)
    assert slate.missing_ids == world.unknown
    assert slate.release == world.release.release_id


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_the_exposure_is_exactly_the_slate(world: RandomWorld) -> None:
    slate = answer(world)
    world.store.up = True
    exposures = [exposure for _, exposure in world.store.exposures()]
    if "expose" in slate.degraded:
        assert exposures == []
        return
    (exposure,) = exposures
    assert list(exposure.item_ids) == ids(slate)
    assert exposure.sources == tuple(item.source for item in slate.items)
    assert exposure.propensities == tuple(item.propensity for item in slate.items)
    assert (exposure.recommendation_id, exposure.user_id, exposure.release) == ("request", "ann", slate.release)


@settings(max_examples=60, deadline=None)
@given(random_worlds())
def test_the_same_query_and_seed_give_the_same_slate(world: RandomWorld) -> None:
    assert answer(world).items == answer(world).items


@settings(max_examples=60, deadline=None)
@given(random_worlds())
def test_without_diversity_values_descend_and_with_it_the_best_comes_first(world: RandomWorld) -> None:
    plain = replace(world, config=world.config.model_copy(update={"rerank": RerankConfig(diversity=0)}))
    values = [item.value for item in answer(plain).items]
    assert values == sorted(values, reverse=True)
    diverse = [item.value for item in answer(world).items]
    assert diverse[:1] == values[:1]


@settings(max_examples=60, deadline=None)
@given(random_worlds())
def test_explained_parts_add_up_to_the_value(world: RandomWorld) -> None:
    for item in answer(replace(world, query=replace(world.query, explain=True))).items:
        assert sum(item.parts.values()) == pytest.approx(item.value, abs=1e-6)
        assert set(item.parts) == {"behaviour", "text", "popularity", "rules", "base"}


@settings(max_examples=60, deadline=None)
@given(random_worlds())
def test_what_fell_back_is_named_and_nothing_else(world: RandomWorld) -> None:
    fell_back = {"encode"} if world.tower != "works" else set()
    if not world.store.up:
        fell_back |= {"hydrate", "filter", "expose"}
    slate = answer(world)
    assert set(slate.degraded) == fell_back
    stages = [*STAGES[:-1], "explain", "expose"] if world.query.explain else STAGES
    assert [stage.name for stage in slate.trace] == stages
    assert {stage.name for stage in slate.trace if stage.fallback} == fell_back
