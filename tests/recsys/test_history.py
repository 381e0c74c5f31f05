from __future__ import annotations

import numpy as np

from recsys.history import history_rows, joined
from recsys.live import view_of
from recsys.ports import LiveItem
from recsys.types import HistoryItem
from tests.worlds.families import release


def clicks(*item_ids: str, at_ms: int = 0) -> tuple[HistoryItem, ...]:
    return tuple(HistoryItem(item_id, "view", at_ms) for item_id in item_ids)


def ids(history: tuple[HistoryItem, ...]) -> list[str]:
    return [item.item_id for item in history]


def test_the_session_comes_after_what_is_stored() -> None:
    assert ids(joined(clicks("a", "b", at_ms=1), clicks("c", "d", at_ms=2))) == ["a", "b", "c", "d"]


def test_either_may_be_empty() -> None:
    stored = clicks("a", "b")
    assert joined(stored, ()) == stored
    assert joined((), stored) == stored
    assert joined((), ()) == ()


def test_an_event_that_is_stored_and_sent_keeps_its_later_place() -> None:
    stored = (*clicks("a", at_ms=1), *clicks("b", at_ms=2))
    assert ids(joined(stored, clicks("a", at_ms=1))) == ["b", "a"]


def test_the_same_item_at_another_time_is_another_event() -> None:
    assert ids(joined(clicks("a", at_ms=1), clicks("a", at_ms=2))) == ["a", "a"]


def test_the_same_item_in_another_way_is_another_event() -> None:
    assert ids(joined((HistoryItem("a", "purchase", 1),), clicks("a", at_ms=1))) == ["a", "a"]
    assert ids(joined((HistoryItem("a", "purchase", 1),), clicks("a"))) == ["a", "a"]


def test_an_item_sent_without_a_time_is_the_stored_one() -> None:
    stored = (*clicks("a", at_ms=1), *clicks("b", at_ms=2))
    assert ids(joined(stored, clicks("a"))) == ["b", "a"]


def test_repetitions_within_one_source_stay() -> None:
    assert ids(joined(clicks("a", "a", at_ms=1), clicks("b", "b", at_ms=2))) == ["a", "a", "b", "b"]


def test_rows_and_codes_go_together_and_unknown_items_are_left_out() -> None:
    catalog = view_of(release(), [LiveItem("new", {}, {}, {})])
    history = (
        HistoryItem("b0", "view"),
        HistoryItem("unknown", "view"),
        HistoryItem("new", "interaction"),
        HistoryItem("a1", "never heard of"),
    )
    rows, codes = history_rows(history, catalog)
    assert rows.tolist() == [10, 30, 1]
    assert codes.tolist() == [2, 1, 0]  # ("unknown", "interaction", "view")
    assert rows.dtype == codes.dtype == np.dtype(np.int64)


def test_no_history_is_two_empty_arrays() -> None:
    rows, codes = history_rows((), view_of(release()))
    assert rows.shape == codes.shape == (0,)
    assert rows.dtype == codes.dtype == np.dtype(np.int64)
