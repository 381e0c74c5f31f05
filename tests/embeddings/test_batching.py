"""Batches hold every item once, and no more than their limits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embeddings.batching import BatchLimits, batches


def texts(*lengths: int) -> list[np.ndarray]:
    return [np.zeros(length, dtype=np.int64) for length in lengths]


def test_texts_are_sorted_by_length_into_token_budgets() -> None:
    # longest first: 6 | 5 + 4 would pad to 2 x 5 = 10 tokens, as 4 + 1 does to 8
    assert batches(texts(1, 6, 4, 5), BatchLimits(max_items=8, max_tokens=10)) == [[1], [3, 2], [0]]


def test_a_text_longer_than_the_budget_goes_alone() -> None:
    assert batches(texts(30, 2), BatchLimits(max_items=8, max_tokens=10)) == [[0], [1]]


def test_images_keep_their_order() -> None:
    images = [np.zeros((8, 8, 3), dtype=np.uint8)] * 5
    assert batches(images, BatchLimits(max_items=2)) == [[0, 1], [2, 3], [4]]


def test_no_items_are_no_batches() -> None:
    assert batches([], BatchLimits()) == []


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 9), st.integers(1, 80))
def test_every_item_is_in_one_batch_within_the_limits(lengths: list[int], max_items: int, max_tokens: int) -> None:
    result = batches(texts(*lengths), BatchLimits(max_items=max_items, max_tokens=max_tokens))
    assert sorted(position for batch in result for position in batch) == list(range(len(lengths)))
    for batch in result:
        assert len(batch) <= max_items
        assert len(batch) == 1 or len(batch) * max(lengths[position] for position in batch) <= max_tokens
