"""A shop's rules, one by one and against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.reranking import (
    Boost,
    Cap,
    Chosen,
    ExplorationConfig,
    RerankConfig,
    SlateInput,
    Slot,
    SurfaceRules,
    choose_slate,
    mmr,
    pinned_rows,
)

N = 12
FIRST_ROW = 100  # rows are no places


def matches(when: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """`row in 1 2 3`, in places."""
    wanted = [int(word) for word in when.split() if word.isdigit()]
    return np.isin(rows - FIRST_ROW, wanted)


def groups_of(column: str, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """`categories`: thirds of the candidates, every fourth without one. `both`: its third, and whether it is even."""
    places = rows - FIRST_ROW
    thirds = np.where(places % 4 == 3, -1, places // 4)
    second = 10 + places % 2 if column == "both" else np.full(len(rows), -1)
    return np.stack([thirds, second], axis=1).astype(np.int32)


def world(n: int = N, **given: Any) -> SlateInput:
    """Candidates 0, 1, ... of value 11, 10, ..., none like another unless vectors are given."""
    return SlateInput(
        rows=FIRST_ROW + np.arange(n),
        value=np.arange(n, 0, -1).astype(np.float32) - 1,
        **{
            "limit": 5,
            "diversity": lambda rows: np.eye(64, dtype=np.float32)[rows - FIRST_ROW],
            "matches": matches,
            "groups_of": groups_of,
            **given,
        },
    )


def choose(rules: SurfaceRules, given: SlateInput | None = None, **config: Any) -> Chosen:
    return choose_slate(given or world(), RerankConfig(rules=rules, **{"diversity": 0, **config}))


def noted(chosen: Chosen, rule: str) -> list[tuple[int, int | None]]:
    return [(note.at, note.position) for note in chosen.notes if note.rule == rule]


def test_without_rules_it_is_mmr_over_the_window() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((40, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    given = world(40, diversity=lambda rows: vectors[rows - FIRST_ROW], limit=20, explain=True)
    chosen = choose_slate(given, RerankConfig(diversity=0.7, window=30))
    expected = mmr(given.value[:30], vectors[:30], np.ones(30, np.bool_), 20, 0.7)
    assert chosen.at.tolist() == expected.tolist()
    assert chosen.value.tolist() == given.value[expected].tolist()
    assert (chosen.propensity.tolist(), chosen.boost) == ([1.0] * 20, None)
    moved_up = [(int(at), place) for place, at in enumerate(expected) if at > place]
    assert noted(chosen, "diversity") == moved_up != []


def test_a_boost_changes_the_value_and_the_value_decides() -> None:
    chosen = choose(SurfaceRules(boosts=(Boost(when="row in 6", add=4.5),)))
    assert chosen.at.tolist() == [0, 1, 6, 2, 3]  # 5 + 4.5 lies between 10 and 9
    assert chosen.value.tolist() == [11, 10, 9.5, 9, 8]
    assert chosen.boost is not None
    assert chosen.boost.tolist() == [0, 0, 4.5, 0, 0]
    assert noted(chosen, "boost") == [(6, 2)]
    assert [note.text for note in chosen.notes] == ["boosted: row in 6"]


def test_boosts_apply_in_order_and_more_is_better_for_negative_values_too() -> None:
    rules = SurfaceRules(boosts=(Boost(when="row in 1 2", multiply=2.0), Boost(when="row in 2", add=1)))
    values = np.array([0, -1, -2, -3], np.float32)
    given = SlateInput(FIRST_ROW + np.arange(4), values, 4, lambda rows: np.eye(4)[rows], matches)
    chosen = choose(rules, given)
    # -1 / 2 = -.5; -2 / 2 + 1 = 0
    assert dict(zip(chosen.at.tolist(), chosen.value.tolist(), strict=True)) == {0: 0, 1: -0.5, 2: 0, 3: -3}
    assert chosen.at.tolist() == [0, 2, 1, 3]


def test_a_boost_lifts_what_lies_beyond_the_window_too() -> None:
    assert choose(SurfaceRules(boosts=(Boost(when="row in 11", add=100),)), window=1).at[0] == 11


def test_a_pin_has_its_place_and_the_others_keep_their_order() -> None:
    given = world(pins={FIRST_ROW + 9: 1, FIRST_ROW + 0: 3})
    chosen = choose(SurfaceRules(pins={"a": 1, "b": 3}), given)
    assert chosen.at.tolist() == [1, 9, 2, 0, 3]
    assert noted(chosen, "pin") == [(9, 1), (0, 3)]


def test_a_pinned_item_that_may_not_be_shown_is_not_shown() -> None:
    given = world(pins={FIRST_ROW + N: 0, 7: 1})  # neither is among the candidates
    assert choose(SurfaceRules(pins={"a": 0, "b": 1}), given).at.tolist() == [0, 1, 2, 3, 4]


def test_a_pin_beyond_the_slate_is_none_and_a_short_slate_moves_it_up() -> None:
    rules = SurfaceRules(pins={"a": 5})
    assert choose(rules, world(pins={FIRST_ROW + 9: 5})).at.tolist() == [0, 1, 2, 3, 4]
    assert choose(rules, world(3, pins={FIRST_ROW: 4})).at.tolist() == [1, 2, 0]


def test_a_slot_is_for_the_best_of_its_kind() -> None:
    rules = SurfaceRules(slots=(Slot(position=1, when="row in 7 5"), Slot(position=2, when="row in 5 9")))
    chosen = choose(rules)
    assert chosen.at.tolist() == [0, 5, 9, 1, 2]
    assert noted(chosen, "slot") == [(5, 1), (9, 2)]
    assert choose(SurfaceRules(slots=(Slot(position=1, when="row in 77"),))).at.tolist() == [0, 1, 2, 3, 4]


def test_what_is_buried_comes_below_all_others() -> None:
    rules = SurfaceRules(bury=("row in 0 1", "row in 2"))
    assert choose(rules).at.tolist() == [3, 4, 5, 6, 7]
    chosen = choose(rules, world(5))
    assert chosen.at.tolist() == [3, 4, 0, 1, 2]
    assert noted(chosen, "bury") == [(0, 2), (1, 3), (2, 4)]


def test_a_pin_outranks_a_bury_and_a_bury_outranks_a_boost_and_a_slot() -> None:
    rules = SurfaceRules(
        bury=("row in 0 1 2",),
        boosts=(Boost(when="row in 1", add=100),),
        pins={"a": 0},
    )
    assert choose(rules, world(pins={FIRST_ROW + 2: 0})).at.tolist() == [2, 3, 4, 5, 6]
    slot = SurfaceRules(bury=("row in 0 1 2",), slots=(Slot(position=0, when="row in 1 6"),))
    assert choose(slot).at.tolist() == [6, 3, 4, 5, 7]


def test_a_category_has_so_many_places() -> None:
    chosen = choose(SurfaceRules(max_per_category=2), world(limit=6))
    # 3, 7 and 11 have no category
    assert chosen.at.tolist() == [0, 1, 3, 4, 5, 7]
    assert noted(chosen, "cap") == [(2, None)]
    assert chosen.notes[0].text == "at most 2 with the same categories are shown"


def test_pinned_items_count_towards_the_caps() -> None:
    chosen = choose(SurfaceRules(max_per_category=2, pins={"a": 0}), world(pins={FIRST_ROW + 2: 0}))
    assert chosen.at.tolist() == [2, 0, 3, 4, 5]


def test_an_item_counts_for_each_of_its_values() -> None:
    chosen = choose(SurfaceRules(caps=(Cap(column="both", max=2),)), world(limit=4))
    # 0 (third 0, even), 1 (third 0, odd), 3 (odd), then even 4; a third of its kind never
    assert chosen.at.tolist() == [0, 1, 3, 4]


def test_caps_are_lifted_where_nothing_else_is_left() -> None:
    chosen = choose(SurfaceRules(max_per_category=1), world(4, limit=4))
    assert chosen.at.tolist() == [0, 3, 1, 2]
    assert noted(chosen, "caps_lifted") == [(1, 2), (2, 3)]


def test_caps_and_diversity_hold_together() -> None:
    alike = lambda rows: np.eye(8, dtype=np.float32)[(rows - FIRST_ROW) // 2]  # noqa: E731
    chosen = choose(SurfaceRules(max_per_category=1), world(diversity=alike), diversity=0.9)
    counts = np.bincount(groups_of("categories", FIRST_ROW + chosen.at)[:, 0] + 1, minlength=4)[1:]
    assert counts.max() == 1
    assert chosen.at[0] == 0


def test_two_items_for_one_place_are_refused() -> None:
    with pytest.raises(ValidationError, match="place 2 is given to two items"):
        SurfaceRules(pins={"a": 2}, slots=(Slot(position=2, when="x = 1"),))


def test_rules_without_what_they_need_say_so() -> None:
    bare = SlateInput(np.arange(3), np.arange(3, 0, -1).astype(np.float32), 2, lambda rows: np.eye(3)[rows])
    with pytest.raises(ValueError, match="needs a matcher"):
        choose(SurfaceRules(bury=("x = 1",)), bare)
    with pytest.raises(ValueError, match="groups_of"):
        choose(SurfaceRules(max_per_category=1), bare)


def test_pins_of_items_that_the_catalogue_does_not_know_are_left_out() -> None:
    assert pinned_rows({"a": 0, "b": 4, "gone": 1}, {"a": 7, "b": 0}.get) == {7: 0, 0: 4}


@st.composite
def rules_and_worlds(draw: st.DrawFn) -> tuple[SurfaceRules, SlateInput, RerankConfig]:
    places = draw(st.lists(st.integers(0, 14), max_size=4, unique=True))
    some = st.lists(st.integers(0, 14), max_size=5).map(lambda rows: "row in " + " ".join(map(str, rows)))
    n_pins = draw(st.integers(0, len(places)))
    pinned = draw(st.permutations(range(15)))[:n_pins]
    rules = SurfaceRules(
        max_per_category=draw(st.integers(0, 3)),
        caps=draw(st.sampled_from([(), (Cap(column="both", max=2),)])),
        boosts=tuple(Boost(when=draw(some), multiply=draw(st.sampled_from([0.5, 3])), add=draw(st.integers(-5, 5)))
                     for _ in range(draw(st.integers(0, 2)))),
        slots=tuple(Slot(position=place, when=draw(some)) for place in places[n_pins:]),
        pins={str(row): place for row, place in zip(pinned, places[:n_pins], strict=True)},
        bury=tuple(draw(some) for _ in range(draw(st.integers(0, 2)))),
    )  # fmt: skip
    share, temperature = draw(st.sampled_from([(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)]))
    config = RerankConfig(
        diversity=draw(st.sampled_from([0, 0.1, 0.9])),
        window=draw(st.sampled_from([1, 4, 200])),
        rules=rules,
        exploration=ExplorationConfig(explore_share=share, temperature=temperature),
    )
    n = draw(st.integers(0, N))
    given = world(
        n,
        limit=draw(st.integers(0, 15)),
        pins={FIRST_ROW + int(item): place for item, place in rules.pins.items()},
        is_cold=np.arange(n) % 3 == 0,
        seed=draw(st.integers(0, 1000)),
        explain=draw(st.booleans()),
    )
    return rules, given, config


@settings(max_examples=300, deadline=None)
@given(rules_and_worlds())
def test_whatever_the_rules_no_item_comes_twice_and_every_place_is_filled(
    case: tuple[SurfaceRules, SlateInput, RerankConfig],
) -> None:
    rules, given, config = case
    chosen = choose_slate(given, config)
    n_places = min(given.limit, len(given.rows))
    assert len(chosen.at) == len(set(chosen.at.tolist())) == len(chosen.value) == len(chosen.propensity) == n_places
    assert ((chosen.propensity > 0) & (chosen.propensity <= 1)).all()
    rows = given.rows[chosen.at]
    # Pins that are there stand in their place, where the slate is long enough for it.
    for row, place in given.pins.items():
        if row in given.rows and place < n_places == given.limit:
            assert rows[place] == row
    # Nothing stands below a buried item but buried items, and places that were given away.
    given_away = {note.at for note in chosen.notes if note.rule in ("pin", "slot")}
    buried = np.zeros(n_places, dtype=np.bool_)
    for when in rules.bury:
        buried |= matches(when, rows)
    free = [bool(is_buried) for is_buried, at in zip(buried, chosen.at.tolist(), strict=True) if at not in given_away]
    assert free == sorted(free)
    for note in chosen.notes:
        assert note.text
        assert note.position is None or chosen.at[note.position] == note.at
