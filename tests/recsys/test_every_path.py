"""What holds on the other paths, over the same random worlds: search by vectors, by title and refined, items like one
item, given items put in order, and lists. Who looks for something finds again what was seen or served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.filtering import NOTHING_MATCHES
from recsys.rank_items import list_items, rank_items
from recsys.search import Wanted, by_title, of_item, refined, search
from recsys.similar import similar
from recsys.types import Slate
from tests.worlds.failing_parts import DIM
from tests.worlds.random_items import item_id_of, unit
from tests.worlds.random_world import RandomWorld, random_worlds
from tests.worlds.sound_slates import ids, require_sound

NUMBERS = st.integers(0, 25)
SEEDS = st.integers(0, 2**32 - 1)
Path = Callable[[RandomWorld, np.random.Generator], Slate]


def searched(world: RandomWorld, rng: np.random.Generator) -> Slate:
    return search(
        wanted(world, rng), world.query, world.catalog, world.read, world.config, world.around(), world.budget()
    )


def wanted(world: RandomWorld, rng: np.random.Generator) -> Wanted:
    """By content, by item vector or by both, by vectors of any length; at times like an item, and moved by words."""
    lengths = 10.0 ** rng.integers(-30, 31, 2)
    kinds = int(rng.integers(1, 4))
    asked = Wanted(
        content={"text": (unit(rng, 1)[0] * lengths[0]).astype(np.float32)} if kinds & 1 else {},
        item_vector=(unit(rng, 1)[0] * lengths[1]).astype(np.float32) if kinds & 2 else None,
    )
    if len(world.catalog) and rng.random() < 0.3:
        asked = of_item(int(rng.integers(len(world.catalog))), world.catalog)
        asked = refined(asked, {"text": unit(rng, 1)[0]}, float(rng.random()))
    return replace(asked, personalise=float(rng.choice([0, 0.3, 1])))


def by_words(world: RandomWorld, rng: np.random.Generator) -> Slate:
    words = " ".join(str(each) for each in rng.choice(["title", "1", "2", '"', "gone"], int(rng.integers(0, 4))))
    return by_title(words, world.query, world.catalog, world.read, world.config, world.around(), world.budget())


def like_one(world: RandomWorld, rng: np.random.Generator) -> Slate:
    item_id = item_id_of(int(rng.integers(25)))
    return similar(item_id, world.query, world.catalog, world.read, world.config, world.around(), world.budget())


def given_items(world: RandomWorld, rng: np.random.Generator) -> Slate:
    item_ids = [item_id_of(int(number)) for number in rng.integers(0, 30, int(rng.integers(0, 20)))]
    return rank_items(item_ids, world.query, world.catalog, world.read, world.config, world.around(), world.budget())


def listed(world: RandomWorld, rng: np.random.Generator) -> Slate:
    rows = rng.permutation(len(world.catalog)).astype(np.int64)
    values = rng.random(len(rows), np.float32) if rng.random() < 0.5 else None
    return list_items(rows, values, "trending", world.query, world.catalog, world.read, world.config, world.around())


@pytest.mark.parametrize("path", [searched, by_words, like_one, given_items])
@settings(max_examples=150, deadline=None)
@given(world=random_worlds(), seed=SEEDS)
def test_what_may_not_be_shown_is_not_found_either(path: Path, world: RandomWorld, seed: int) -> None:
    slate = path(world, np.random.default_rng(seed))
    is_lifted = any(stage.fallback == NOTHING_MATCHES for stage in slate.trace)
    assert world.may_lift or not is_lifted
    require_sound(slate, world, (world.findable_without_filter if is_lifted else world.findable) & world.still)


@settings(max_examples=150, deadline=None)
@given(random_worlds(), SEEDS)
def test_a_list_holds_what_may_be_shown_in_its_own_order(world: RandomWorld, seed: int) -> None:
    slate = listed(world, np.random.default_rng(seed))
    require_sound(slate, world, world.allowed & world.still)
    order = np.random.default_rng(seed).permutation(len(world.catalog)).tolist()
    named = [world.catalog.item_id(row) for row in order]
    first = [item_id for item_id in named if item_id in world.allowed][: world.query.limit]
    assert ids(slate) == [item_id for item_id in first if item_id in world.still]


@settings(max_examples=150, deadline=None)
@given(random_worlds(), SEEDS)
def test_a_search_by_item_vector_finds_all_that_has_a_place(world: RandomWorld, seed: int) -> None:
    world = replace(world, latest=None, query=replace(world.query, strict_filtering=True))
    anywhere = Wanted(item_vector=unit(np.random.default_rng(seed), 1)[0])
    slate = search(anywhere, world.query, world.catalog, world.read, world.config, world.around())
    if world.index != "works":
        assert "retrieve" in slate.degraded
        assert slate.items == ()
        return
    placed = {item_id for item_id in world.findable if _has_a_place(world, item_id)}
    assert len(slate.items) == min(world.query.limit, len(placed))


def _has_a_place(world: RandomWorld, item_id: str) -> bool:
    row = world.catalog.row(item_id)
    assert row is not None
    return row < world.release.n_items or bool(world.catalog.vectors(np.array([row])).any())


@settings(max_examples=150, deadline=None)
@given(random_worlds(), NUMBERS)
def test_items_like_one_item_are_all_there_are_where_there_are_towers(world: RandomWorld, number: int) -> None:
    world, item_id = replace(world, latest=None, query=replace(world.query, strict_filtering=True)), item_id_of(number)
    slate = similar(item_id, world.query, world.catalog, world.read, world.config, world.around())
    if world.catalog.row(item_id) is None:
        assert item_id in slate.missing_ids
        assert slate.items == ()
    elif world.tower != "none" and world.index == "works":
        assert len(slate.items) == min(world.query.limit, len(world.findable - {item_id}))


@settings(max_examples=150, deadline=None)
@given(random_worlds(), st.lists(NUMBERS, max_size=20))
def test_given_items_are_all_there_that_may_be_shown_and_the_others_that_nobody_knows_are_named(
    world: RandomWorld, numbers: list[int]
) -> None:
    world = replace(world, latest=None)
    asked = [item_id_of(number) for number in numbers]
    slate = rank_items(asked, world.query, world.catalog, world.read, world.config, world.around())
    found = world.findable & set(asked)
    if not found and world.may_lift:
        found = world.findable_without_filter & set(asked)
    assert len(slate.items) == min(world.query.limit, len(found))
    unknown = [each for each in asked if world.catalog.row(each) is None]
    assert slate.missing_ids == tuple(dict.fromkeys([*world.unknown, *unknown]))


@settings(max_examples=60, deadline=None)
@given(random_worlds(), SEEDS)
def test_a_search_of_a_length_that_float32_cannot_square_is_that_of_length_one(world: RandomWorld, seed: int) -> None:
    direction = unit(np.random.default_rng(seed), 1)[0]
    slates = [
        search(
            Wanted({"text": direction * np.float32(length)}), world.query, world.catalog, world.read, world.config,
        )
        for length in (1, 1e-30, 1e30)
    ]  # fmt: skip
    values = [[item.value for item in slate.items] for slate in slates]
    assert values[1] == pytest.approx(values[0], abs=1e-5)
    assert values[2] == pytest.approx(values[0], abs=1e-5)
    assert len(direction) == DIM
