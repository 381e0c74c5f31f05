from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.catalog import CatalogItem
from recsys.events import hash64
from recsys.filtering import RULES, FilterConfig, GateInput, allowed, fails_closed
from recsys.live import view_of
from recsys.ports import AllowedRows
from recsys.times import to_ms
from tests.worlds.in_memory import in_memory_release

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(milliseconds=1), NOW - timedelta(milliseconds=1)
ITEMS = (
    CatalogItem("free"),
    CatalogItem("hidden", hidden=True),
    CatalogItem("from now on", available_from=NOW),
    CatalogItem("from later on", available_from=LATER),
    CatalogItem("until now", available_until=NOW),
    CatalogItem("until later", available_until=LATER),
    CatalogItem("long gone", available_from=EARLIER, available_until=EARLIER),
)
VIEW = view_of(in_memory_release(ITEMS, np.zeros((len(ITEMS), 1), np.float32)))
ALL_ROWS = np.arange(len(ITEMS))


def hashes(item_ids: Iterable[str]) -> NDArray[np.uint64]:
    return np.unique(np.array([hash64(item_id) for item_id in item_ids], dtype=np.uint64))


def gate(seen: Iterable[str] = (), blocked: Iterable[str] = (), excluded: Iterable[str] = ()) -> GateInput:
    return GateInput(VIEW, to_ms(NOW), hashes(seen), hashes(blocked), hashes(excluded))


def kept(gate: GateInput, config: FilterConfig | None = None) -> list[str]:
    return [ITEMS[row].item_id for row in ALL_ROWS[allowed(gate, ALL_ROWS, config or FilterConfig())]]


def test_hidden_items_and_those_outside_their_time_are_dropped_for_everybody() -> None:
    assert kept(gate()) == ["free", "from now on", "until later"]


def test_each_rule_drops_what_its_name_says() -> None:
    full = replace(
        gate(seen=["free"], blocked=["from now on"], excluded=["until later", "not an item"]),
        served=hashes(["from now on"]),
        paged=np.unique(hashes(["until later"]).astype(np.uint32)),
        matching=AllowedRows(ALL_ROWS != 0, len(ITEMS)),
    )
    masks = {rule.name: rule.drops(full, ALL_ROWS) for rule in RULES}
    dropped = {name: [ITEMS[row].item_id for row in ALL_ROWS[mask]] for name, mask in masks.items() if mask is not None}
    assert dropped == {
        "hidden": ["hidden"],
        "not_yet_available": ["from later on"],
        "expired": ["until now", "long gone"],
        "blocked": ["from now on"],
        "excluded": ["until later"],
        "filter": [ITEMS[0].item_id],
        "seen": ["free"],
        "served_recently": ["from now on"],
        "on_an_earlier_page": ["until later"],
    }
    assert kept(full) == []


def test_what_each_rule_dropped_is_counted_once_for_each_row_by_the_first_that_did() -> None:
    dropped: dict[str, int] = {}
    full = replace(gate(seen=["free", "hidden"]), forbidden=(("never", ALL_ROWS == 0), ("never", ALL_ROWS == 1)))
    allowed(full, ALL_ROWS, FilterConfig(), dropped)
    assert sum(dropped.values()) == len(ITEMS) - len(kept(full))
    assert (dropped["hidden"], dropped["seen"]) == (1, 1)


def test_only_the_rule_on_seen_items_can_be_switched_off() -> None:
    full = gate(seen=["free"], blocked=["from now on"])
    assert kept(full, FilterConfig(exclude_seen=False)) == ["free", "until later"]


@given(st.lists(st.sampled_from([item.item_id for item in ITEMS] + ["x", "y"])), st.lists(st.integers(0, 6)))
def test_membership_is_that_of_the_set(seen: list[str], asked: list[int]) -> None:
    seen_rule = next(rule for rule in RULES if rule.name == "seen")
    drops = seen_rule.drops(gate(seen=seen), np.array(asked, dtype=np.int64))
    expected = [ITEMS[row].item_id in set(seen) for row in asked]
    assert (any(expected) if drops is None else drops.tolist()) == (False if drops is None else expected)


def test_rows_are_judged_in_the_order_given_and_none_are_fine() -> None:
    assert allowed(gate(), np.array([1, 0, 3, 0]), FilterConfig()).tolist() == [False, True, False, True]
    assert allowed(gate(), np.empty(0, np.int64), FilterConfig()).tolist() == []


@pytest.mark.parametrize(
    ("config", "closes"),
    [
        (FilterConfig(), False),
        (FilterConfig(fail_open=("seen",)), True),
        (FilterConfig(fail_open=("blocked",)), True),
        (FilterConfig(fail_open=("blocked",), exclude_seen=False), False),
        (FilterConfig(fail_open=()), True),
    ],
)
def test_while_the_user_is_unknown_a_rule_fails_open_only_where_it_is_said_to(
    config: FilterConfig, closes: bool
) -> None:
    unknown = replace(gate(seen=["free"]), user_is_known=False)
    assert fails_closed(unknown, config) == closes
    seen_this_session = [] if config.exclude_seen else ["free"]
    assert kept(unknown, config) == ([] if closes else [*seen_this_session, "from now on", "until later"])
    assert not fails_closed(gate(), config)


def test_only_rules_on_the_user_can_be_said_to_fail_open() -> None:
    with pytest.raises(ValidationError, match="fail_open"):
        FilterConfig.model_validate({"fail_open": ["hidden"]})
