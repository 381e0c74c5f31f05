from __future__ import annotations

import numpy as np
import pytest

from recsys.metrics.ann import recall_against_exact


def test_the_share_of_exact_neighbours_that_were_found():
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = np.array([[4, 3, 2, 1], [5, 1, 2, 3]])
    assert recall_against_exact(found, exact) == pytest.approx((4 + 1) / 8)


def test_what_another_query_found_does_not_count():
    assert recall_against_exact(np.array([[1], [2]]), np.array([[2], [1]])) == 0


def test_the_mark_for_nothing_found_matches_nothing():
    assert recall_against_exact(np.array([[-1, -1]]), np.array([[0, 1]])) == 0
    assert recall_against_exact(np.array([[0], [-1]]), np.array([[0], [3]])) == 1 / 2


def test_nothing_to_find_is_found():
    assert recall_against_exact(np.empty((3, 0), np.int64), np.empty((3, 0), np.int64)) == 1
