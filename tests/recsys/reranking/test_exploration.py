"""Choices by chance: how often each is made is what its propensity says."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys.reranking import Cap, Chosen, ExplorationConfig, RerankConfig, SlateInput, SurfaceRules, choose_slate
from recsys.reranking.exploration import mixed_in, plackett_luce, soft_choice

Draw = Callable[[int], tuple[list[int], list[float]]]
N_DRAWS = 6000


def assert_propensities_are_frequencies(draw: Draw, n_draws: int = N_DRAWS) -> None:
    """For each beginning of a slate that came up: one propensity an item, summing to 1 over the items that followed
    it where it came up often, and each within 4 standard deviations of how often the item followed."""
    followed: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    said: dict[tuple[int, ...], dict[int, float]] = defaultdict(dict)
    for seed in range(n_draws):
        chosen, propensities = draw(seed)
        for place, (item, propensity) in enumerate(zip(chosen, propensities, strict=True)):
            before = tuple(chosen[:place])
            followed[before][item] += 1
            assert said[before].setdefault(item, propensity) == pytest.approx(propensity, abs=1e-6)
    for before, counts in followed.items():
        n = counts.total()
        if n < 500:
            continue
        assert sum(said[before].values()) == pytest.approx(1, abs=1e-5), (before, said[before])
        for item, count in counts.items():
            p = said[before][item]
            assert abs(count - n * p) <= 4 * np.sqrt(n * p * (1 - p)) + 1e-9, (before, item)


def of_chosen(chosen: Chosen) -> tuple[list[int], list[float]]:
    return chosen.at.tolist(), chosen.propensity.tolist()


def world(n: int, **given: object) -> SlateInput:
    """Candidates of falling value; 0 and 1, 2 and 3, ... look alike."""
    vectors = np.repeat(np.eye(n, dtype=np.float32), 2, axis=0)
    return SlateInput(
        rows=np.arange(n),
        value=np.linspace(1, 0, n).astype(np.float32),
        diversity=lambda rows: vectors[rows],
        **{"limit": 3, **given},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("pool", [[3, 4], [1, 3], [0, 1, 2, 3], [4]])
def test_cold_items_come_as_often_as_their_propensity_says(pool: list[int]) -> None:
    def draw(seed: int) -> tuple[list[int], list[float]]:
        drawn = mixed_in(np.arange(4), np.array(pool), 3, 0.4, np.random.default_rng(seed))
        return drawn.chosen.tolist(), drawn.propensity.tolist()

    assert_propensities_are_frequencies(draw)


def test_the_formula_with_its_arithmetic() -> None:
    """Base 0 1 2, pool 2 3: at the first place 0 has .6, and each of 2 and 3 has .4 / 2."""
    seen = {}
    for seed in range(200):
        drawn = mixed_in(np.arange(3), np.array([2, 3]), 2, 0.4, np.random.default_rng(seed))
        seen[tuple(drawn.chosen.tolist())] = [round(float(p), 6) for p in drawn.propensity]
    assert seen == {
        (0, 1): [0.6, 0.6],
        (0, 2): [0.6, 0.4 / 2],
        (0, 3): [0.6, 0.4 / 2],
        (2, 0): [0.4 / 2, 0.6],
        (2, 3): [0.4 / 2, 0.4 / 1],
        (3, 0): [0.4 / 2, 0.6],
        (3, 2): [0.4 / 2, 0.4 / 1],
    }


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(0, 8), st.sampled_from([0.0, 0.3, 1.0]))
def test_no_item_comes_twice_and_every_choice_was_possible(seed: int, n_places: int, n_pool: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    pool = rng.permutation(12)[:n_pool]
    drawn = mixed_in(np.arange(n_places), pool, n_places, share, rng)
    assert len(set(drawn.chosen.tolist())) == n_places
    assert ((drawn.propensity > 0) & (drawn.propensity <= 1)).all()
    assert set(drawn.chosen[drawn.by_chance].tolist()) <= set(pool.tolist())
    if share == 0:
        assert drawn.chosen.tolist() == list(range(n_places))
        assert (drawn.propensity == 1).all()


def test_a_pool_that_is_used_up_leaves_certainty() -> None:
    drawn = mixed_in(np.arange(4), np.array([3]), 3, 1.0, np.random.default_rng(0))
    assert drawn.chosen.tolist() == [3, 0, 1]
    assert drawn.propensity.tolist() == [1, 1, 1]
    assert drawn.by_chance.tolist() == [True, False, False]


def test_plackett_luce_comes_as_often_as_its_propensity_says() -> None:
    logits = np.array([1.0, 0.5, 0.0, -1.0], np.float32)

    def draw(seed: int) -> tuple[list[int], list[float]]:
        drawn = plackett_luce(logits, 3, np.random.default_rng(seed))
        return drawn.chosen.tolist(), drawn.propensity.tolist()

    assert_propensities_are_frequencies(draw)


def test_plackett_luce_by_hand() -> None:
    weights = np.array([4.0, 2.0, 1.0])
    for seed in range(20):
        drawn = plackett_luce(np.log(weights).astype(np.float32), 3, np.random.default_rng(seed))
        first, second, _ = drawn.chosen.tolist()
        expected = [weights[first] / 7, weights[second] / (7 - weights[first]), 1]
        assert drawn.propensity.tolist() == pytest.approx(expected, rel=1e-5)


def test_far_apart_logits_stay_numbers() -> None:
    logits = np.array([0.0, -5000.0, -9000.0], np.float32)
    drawn = plackett_luce(logits, 3, np.random.default_rng(0))
    assert drawn.chosen.tolist() == [0, 1, 2]
    assert drawn.propensity.tolist() == pytest.approx([1, 1, 1])
    best, propensity = soft_choice(logits, 0.01, np.random.default_rng(0))
    assert (best, propensity) == (0, 1.0)


CONFIGS = {
    "cold items": RerankConfig(exploration=ExplorationConfig(explore_share=0.3)),
    "temperature, by value": RerankConfig(diversity=0, exploration=ExplorationConfig(temperature=0.5)),
    "temperature, diverse": RerankConfig(diversity=0.5, exploration=ExplorationConfig(temperature=0.3)),
    "temperature, capped": RerankConfig(
        diversity=0.2,
        rules=SurfaceRules(caps=(Cap(column="pair", max=1),)),
        exploration=ExplorationConfig(temperature=0.5),
    ),
    "temperature, caps that must be lifted": RerankConfig(
        diversity=0,
        rules=SurfaceRules(caps=(Cap(column="all", max=1),)),
        exploration=ExplorationConfig(temperature=0.5),
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_whole_slates_come_as_often_as_their_propensities_say(config: RerankConfig) -> None:
    def groups_of(column: str, rows: np.ndarray) -> np.ndarray:
        return (rows // 2 if column == "pair" else rows * 0).astype(np.int32)[:, None]

    is_cold = np.array([False, False, True, True, True])

    def draw(seed: int) -> tuple[list[int], list[float]]:
        given = world(5, is_cold=is_cold, seed=seed, groups_of=groups_of, pins={4: 1} if seed % 2 else {})
        return of_chosen(choose_slate(given, config))

    assert_propensities_are_frequencies(lambda seed: draw(2 * seed), 3000)
    assert_propensities_are_frequencies(lambda seed: draw(2 * seed + 1), 3000)


def test_one_seed_is_one_slate() -> None:
    config = RerankConfig(exploration=ExplorationConfig(temperature=1))
    slates = [of_chosen(choose_slate(world(5, seed=seed), config)) for seed in (1, 1, 2, 3, 4)]
    assert slates[0] == slates[1]
    assert len({tuple(chosen) for chosen, _ in slates}) > 1


def test_without_exploration_every_propensity_is_1_and_no_seed_matters() -> None:
    for seed in range(5):
        chosen = choose_slate(world(5, seed=seed, is_cold=np.ones(5, np.bool_)), RerankConfig())
        assert chosen.propensity.tolist() == [1, 1, 1]
        assert chosen.at.tolist() == choose_slate(world(5), RerankConfig()).at.tolist()


def test_the_pool_is_the_most_valuable_cold_items_and_a_note_says_what_was_tried() -> None:
    config = RerankConfig(exploration=ExplorationConfig(explore_share=1, explore_pool=2))
    is_cold = np.arange(8) >= 4
    chosen = choose_slate(world(8, is_cold=is_cold), config)
    assert sorted(chosen.at[:2].tolist()) == [4, 5]
    assert chosen.at[2] == 0
    tried = [note for note in chosen.notes if note.rule == "exploration"]
    assert [(note.position, note.at) for note in tried] == list(enumerate(chosen.at[:2].tolist()))


def test_two_policies_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="two policies"):
        ExplorationConfig(explore_share=0.1, temperature=0.1)
