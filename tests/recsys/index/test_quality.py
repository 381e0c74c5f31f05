from __future__ import annotations

import numpy as np
import pytest

from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex
from recsys.index.quality import SELECTIVITIES, measure_index, random_filters

VECTORS = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)
EXACT = ExactIndex(VECTORS)


def test_an_exact_index_finds_all_under_every_filter():
    quality = measure_index(EXACT, EXACT, QUERIES, k=10, seed=0)
    assert quality.recall == 1
    assert [each.selectivity for each in quality.filtered] == list(SELECTIVITIES)
    assert {(each.recall, each.shortest_share, each.n_strays) for each in quality.filtered} == {(1.0, 1.0, 0)}


def test_filters_let_that_share_pass_and_at_least_one_item():
    for share, n_allowed in ((0.9, 1800), (0.01, 20), (0.0001, 1)):
        one, other = random_filters(2000, share, 2, seed=0)
        assert one.n_allowed == other.n_allowed == n_allowed
    assert one.rows.tolist() == random_filters(2000, 0.0001, 1, seed=0)[0].rows.tolist()
    many = [each.rows[0] for each in random_filters(2000, 0.0001, 9, seed=0)]
    assert len(set(many)) > 1


def test_an_index_that_is_short_under_filters_or_answers_with_strays_is_found_out():
    class Careless(ExactIndex):
        """Filters after the search, and forgets to ask for more; its last answer is always row 0."""

        def search(self, queries, k, allowed=None):
            rows, similarities = super().search(queries, k)
            if allowed is not None:
                n_left = allowed.mask[rows].sum(axis=1).min()
                rows = np.stack([line[allowed.mask[line]][:n_left] for line in rows])
                rows = np.concatenate([rows, np.zeros((len(rows), 1), np.int64)], axis=1)
            return rows, similarities

    quality = measure_index(Careless(VECTORS), EXACT, QUERIES, k=20, seed=0)
    assert quality.recall == 1
    thousandth = next(each for each in quality.filtered if each.selectivity == 0.001)
    assert thousandth.shortest_share < 1
    assert thousandth.n_strays > 0
    assert thousandth.recall < 0.2


def test_figures_are_the_same_each_time():
    index = ApproximateIndex.build(VECTORS, "RR8,PQ4x4fs", threads=1)
    one, two = (measure_index(index, EXACT, QUERIES, k=10, seed=3) for _ in range(2))
    assert one == two
    assert one.filtered[0].as_json().keys() == {"selectivity", "recall", "shortest_share", "strays"}


@pytest.mark.parametrize("n_items", [0, 1, 3])
def test_tiny_catalogues_are_measured_too(n_items):
    exact = ExactIndex(VECTORS[:n_items])
    assert measure_index(exact, exact, QUERIES[:2], k=100, seed=0).recall == 1
