"""What every store promises of what is taken most now (`recsys.ports.FeatureStore.trending`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.events import Interaction
from recsys.ports import Store
from tests.contracts.events import event

BASE_MS = (int(datetime.now(UTC).timestamp()) // 600 - 3) * 600_000  # the start of ten minutes, half an hour ago


def taken(number: int, item: str, minute: float) -> Interaction:
    at = datetime.fromtimestamp(BASE_MS / 1000, UTC) + timedelta(minutes=minute)
    return replace(event(number, item=item, user=f"u{number % 5}"), occurred_at=at)


def test_what_was_taken_lately_weighs_more_than_what_was_taken_often(store: Store) -> None:
    assert store.trending(BASE_MS, 600, 10)[0] == ()
    store.append([taken(number, "old hit", 1) for number in range(4)])
    store.append([taken(number, "new hit", 21) for number in range(10, 13)])
    store.append([taken(20, "new", 22), taken(20, "never: a duplicate", 22)])
    item_ids, weights = store.trending(BASE_MS + 25 * 60_000, 600, 10)
    assert item_ids == ("new hit", "new", "old hit")  # 3, 1 and 4 / 4 of equal weight: then by name
    assert weights.tolist() == [3.0, 1.0, 1.0]
    assert weights.dtype == np.float32
    assert store.trending(BASE_MS + 25 * 60_000, 600, 1)[0] == ("new hit",)
    assert store.trending(BASE_MS + 25 * 60_000, 1e9, 1)[0] == ("old hit",)


def test_old_events_and_rejected_ones_do_not_trend(store: Store) -> None:
    store.append([event(number) for number in range(5)])
    store.append([replace(taken(9, "tomorrow", 0), occurred_at=datetime.now(UTC) + timedelta(days=1))])
    store.erase_user("u0", now=datetime.now(UTC) + timedelta(days=2))
    store.append([taken(10, "rejected", 1)])
    assert store.trending(BASE_MS + 600_000, 1e6, 10)[0] == ()


def test_each_of_many_items_is_counted(store: Store) -> None:
    for start in range(0, 900, 300):
        store.append([taken(n, f"i{n % 300}", 1) for n in range(start, start + 300)])
    item_ids, weights = store.trending(BASE_MS + 300_000, 600, 300)
    assert (len(set(item_ids)), set(weights.tolist())) == (300, {3.0})


def test_a_half_life_must_be_positive(store: Store) -> None:
    with pytest.raises(ValueError, match="half_life_s must be positive"):
        store.trending(BASE_MS, 0, 10)
