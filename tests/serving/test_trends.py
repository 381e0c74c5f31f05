"""What is trending, in rows of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys.catalog import CatalogItem
from recsys.errors import StoreUnavailable
from recsys.live import CatalogView, view_of
from serving.telemetry import Telemetry
from serving.trends import Trends
from tests.worlds.in_memory import in_memory_release


class Store:
    """Says what it is told to say; None = it does not answer."""

    def __init__(self, *item_ids: str) -> None:
        self.item_ids: Sequence[str] | None = item_ids
        self.asked = 0

    def __call__(self, now_ms: int) -> tuple[tuple[str, ...], np.ndarray]:
        if self.item_ids is None:
            raise StoreUnavailable("gone")
        self.asked += 1
        return tuple(self.item_ids), np.arange(len(self.item_ids), 0, -1, dtype=np.float32) / self.asked


def catalog() -> CatalogView:
    return view_of(in_memory_release([CatalogItem(f"i{row}") for row in range(4)], np.eye(4, dtype=np.float32)))


def test_rows_are_those_of_the_catalogue_and_what_it_lacks_is_left_out() -> None:
    trends, view = Trends(Store("i2", "nobody knows it", "i0"), Telemetry()), catalog()
    assert trends.rows(view).tolist() == []
    trends.refresh()
    rows, weights = trends.weighted(view)
    assert rows.tolist() == [2, 0]
    assert weights.tolist() == [3, 1]


def test_the_rows_are_the_same_object_until_other_items_are_trending() -> None:
    """What was found with them is kept by that; weights change with every answer."""
    store, view = Store("i2", "i0"), catalog()
    trends = Trends(store, Telemetry())
    trends.refresh()
    rows, weights = trends.weighted(view)
    trends.refresh()
    again, later_weights = trends.weighted(view)
    assert again is rows
    assert later_weights.tolist() == (weights / 2).tolist()
    store.item_ids = ("i0", "i2")
    trends.refresh()
    assert trends.rows(view).tolist() == [0, 2]


def test_the_last_answer_stays_while_the_store_is_away() -> None:
    store, view = Store("i1"), catalog()
    trends = Trends(store, Telemetry())
    trends.refresh()
    store.item_ids = None
    trends.refresh()
    assert trends.rows(view).tolist() == [1]
