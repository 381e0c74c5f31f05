"""What holds for every request for recommendations, over random worlds: filters and a shop's rules; towers, indexes and
rankers that work, fail or are not there; a store that answers or does not; a budget that ends anywhere; quotas that run
dry; items that were hidden, changed, deleted or added since the release, and some of them while the request runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from recsys.history import HistoryCache
from recsys.recommender import recommend
from recsys.types import Slate
from tests.worlds.failing_parts import NotingBudget
from tests.worlds.random_world import RandomWorld, random_worlds
from tests.worlds.sound_slates import ids, require_sound

STAGES = ["hydrate", "encode", "retrieve", "filter", "rank", "choose", "expose"]


def answer(world: RandomWorld, budget: NotingBudget | None = None) -> Slate:
    return recommend(world.query, world.catalog, world.read, world.config, world.around(), budget or world.budget())


@settings(max_examples=300, deadline=None)
@given(random_worlds())
def test_what_may_not_be_shown_never_leaves_and_what_leaves_is_logged_as_it_left(world: RandomWorld) -> None:
    require_sound(answer(world), world, world.allowed & world.still)


@settings(max_examples=200, deadline=None)
@given(random_worlds())
def test_every_place_is_filled_while_there_is_an_allowed_item(world: RandomWorld) -> None:
    assert len(answer(replace(world, latest=None)).items) == min(world.query.limit, len(world.allowed))


@settings(max_examples=200, deadline=None)
@given(random_worlds())
def test_a_change_while_the_request_runs_takes_out_what_it_forbids_and_nothing_else(world: RandomWorld) -> None:
    before = answer(replace(world, latest=None, histories=HistoryCache(0)))
    assert ids(answer(world)) == [item_id for item_id in ids(before) if item_id in world.still]


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_ids_that_nobody_knows_are_named(world: RandomWorld) -> None:
    assert answer(world).missing_ids == world.unknown


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_the_same_query_and_seed_give_the_same_slate_whether_its_history_was_kept_or_not(world: RandomWorld) -> None:
    forever = replace(world, n_looks=None)
    assert answer(forever).items == answer(forever).items
    assert len(world.histories) == 1


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_without_diversity_values_descend_and_with_it_the_best_comes_first(world: RandomWorld) -> None:
    diverse = replace(world.plain(), n_looks=None)
    rerank = diverse.config.rerank.model_copy(update={"diversity": 0.0})
    plain = replace(diverse, config=diverse.config.model_copy(update={"rerank": rerank}))
    values = [item.value for item in answer(plain).items]
    assert values == sorted(values, reverse=True)
    assert [item.value for item in answer(diverse).items][:1] == values[:1]


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_a_pinned_item_that_may_be_shown_has_its_place_and_no_other_pin_has_one(world: RandomWorld) -> None:
    slate = answer(replace(world, latest=None))
    n = len(slate.items)
    pins = {item_id: place for item_id, place in world.config.rerank.rules.pins.items() if item_id in world.allowed}
    for item_id, place in pins.items():
        if place < min(n, world.query.limit) and n == world.query.limit:
            assert ids(slate)[place] == item_id


@settings(max_examples=100, deadline=None)
@given(random_worlds())
def test_explained_parts_add_up_to_the_value(world: RandomWorld) -> None:
    slate = answer(replace(world, query=replace(world.query, explain=True)))
    for item in slate.items:
        assert sum(item.parts.values()) == pytest.approx(item.value, abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(random_worlds())
def test_what_fell_back_is_named_and_nothing_else(world: RandomWorld) -> None:
    budget = world.budget()
    slate = answer(world, budget)
    fell_back = set(budget.not_afforded)
    if world.tower != "works":
        fell_back.add("encode")
    if world.index != "works" and world.index_guard.n_asked:
        fell_back.add("retrieve")
    if world.ranker in ("fails", "guarded off") and world.ranker_guard.n_asked:
        fell_back.add("rank")
    if world.store_state == "down":
        fell_back |= {"hydrate", "filter"}
    if world.is_lifted or not world.is_judged:
        fell_back.add("filter")
    if world.store_state != "up":
        fell_back.add("expose")
    assert set(slate.degraded) - {"explain"} == fell_back - {"explain"}
    assert [stage.name for stage in slate.trace if stage.name != "explain"] == STAGES
    assert ("explain" in [stage.name for stage in slate.trace]) == world.query.explain
