from __future__ import annotations

from math import log2

import numpy as np
import pytest

from recsys.metrics.beyond_accuracy import (
    coverage,
    exposure_counts,
    gini,
    intra_list_diversity,
    list_popularity,
    novelty,
)
from recsys.metrics.ranking import NO_ITEM

LISTS = np.array([[0, 1, 2], [0, 1, NO_ITEM]])


def test_coverage_counts_each_shown_item_once():
    assert coverage(LISTS, n_items=6) == 3 / 6
    assert coverage(np.empty((0, 10), np.int64), n_items=6) == 0
    assert coverage(np.empty((0, 10), np.int64), n_items=0) == 0


def test_exposures_leave_out_the_padding():
    assert exposure_counts(LISTS, n_items=4).tolist() == [2, 2, 1, 0]


def test_gini_is_zero_for_equal_shares_and_almost_one_for_a_single_winner():
    assert gini(np.array([5, 5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 20])) == pytest.approx(3 / 4)
    # sorted 1, 3: ((2*1 - 2 - 1) * 1 + (2*2 - 2 - 1) * 3) / (2 * 4)
    assert gini(np.array([3, 1])) == pytest.approx((-1 * 1 + 1 * 3) / (2 * 4))
    assert gini(np.zeros(3, np.int64)) == 0


def test_popularity_of_a_list_is_the_mean_over_its_items():
    popularity = np.array([0.5, 0.3, 0.1])
    assert list_popularity(LISTS, popularity) == pytest.approx([(0.5 + 0.3 + 0.1) / 3, (0.5 + 0.3) / 2])


def test_an_empty_list_has_no_popularity():
    assert list_popularity(np.full((1, 2), NO_ITEM), np.array([0.5])).tolist() == [0]


def test_novelty_is_mean_self_information_in_bits():
    popularity = np.array([0.5, 0.25, 0.0])
    never_chosen = -log2(0.25 / 2)
    assert novelty(LISTS, popularity) == pytest.approx([(1 + 2 + never_chosen) / 3, (1 + 2) / 2])


def test_diversity_is_one_minus_the_mean_cosine_of_pairs():
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], np.float32)
    present = np.ones(4, np.bool_)
    # pairs (0,1) (0,2) (1,2): cosines 0, 1, 0
    assert intra_list_diversity(np.array([[0, 1, 2]]), vectors, present) == pytest.approx([1 - 1 / 3])
    # pairs (0,1) (0,3) (1,3): cosines 0, .6, .8
    assert intra_list_diversity(np.array([[0, 1, 3]]), vectors, present) == pytest.approx([1 - 1.4 / 3])
    assert intra_list_diversity(np.array([[0, 2, NO_ITEM]]), vectors, present) == pytest.approx([0], abs=1e-6)


def test_diversity_leaves_out_items_without_a_vector_and_is_unknown_for_a_single_one():
    vectors = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    present = np.array([True, True, False])
    found = intra_list_diversity(np.array([[0, 1, 2], [0, 2, NO_ITEM]]), vectors, present)
    assert found[0] == pytest.approx(1)
    assert np.isnan(found[1])
