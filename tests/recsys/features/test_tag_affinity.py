from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from recsys.features.tag_affinity import tag_affinity

SEA, SNOW, CITY = 11, 22, 33


def codes(*items: Sequence[int]) -> np.ndarray:
    width = max(map(len, items), default=0) or 1
    return np.array([[*tags, *[-1] * (width - len(tags))] for tags in items], np.int32).reshape(len(items), width)


def test_a_candidate_is_as_near_as_its_tags_are_frequent_in_the_history() -> None:
    history = codes([SEA, CITY], [SEA], [SNOW])  # the last one first
    weights = (1, 0.8, 0.64)
    sea, snow = (1 + 0.8) / sum(weights), 0.64 / sum(weights)
    affinity = tag_affinity(history, codes([SEA], [SNOW, SEA], [99, SEA], []), 0.8)
    assert affinity.tolist() == pytest.approx([sea, (sea + snow) / 2, sea / 2, 0])
    assert affinity.dtype == np.float32


def test_without_decay_each_interaction_counts_alike() -> None:
    assert tag_affinity(codes([SEA], [SNOW]), codes([SEA], [SNOW]), 1.0).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("history", [codes(), codes([]), codes([], [])])
def test_where_the_history_has_no_tags_nothing_is_near(history: np.ndarray) -> None:
    assert tag_affinity(history, codes([SEA], []), 0.8).tolist() == [0, 0]


def test_what_is_missing_is_no_tag_that_items_share() -> None:
    assert tag_affinity(codes([SEA], []), codes([SNOW], []), 0.8).tolist() == [0, 0]
