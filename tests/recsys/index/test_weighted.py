"""Axes that are stretched for items and shrunk for queries: no inner product changes, and codes lose less of it."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex
from recsys.index.weighted import _paired, weighted_axes
from recsys.metrics.ann import recall_against_exact


def leaning(n: int, dim: int, seed: int) -> np.ndarray:
    """A falling spectrum, as encoders give, on axes that are not the coordinates."""
    rng = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((dim, dim)))
    spread = (1 + np.arange(dim)) ** -0.7
    return ((rng.standard_normal((n, dim)) * spread) @ turned + 0.2).astype(np.float32)


@pytest.mark.parametrize(("dim", "width"), [(2, 2), (5, 6), (16, 16), (15, 16), (6, 16)])
def test_inner_products_stay_what_they_were(dim, width):
    vectors, queries = leaning(500, dim, 0), leaning(20, dim, 2)
    items, asks = weighted_axes(vectors, width)
    assert items.shape == asks.shape == (width, dim)
    np.testing.assert_allclose((queries @ asks.T) @ (vectors @ items.T).T, queries @ vectors.T, rtol=1e-3, atol=1e-4)


def test_the_widest_axis_shares_a_code_with_the_narrowest():
    assert _paired(6).tolist() == [0, 2, 4, 5, 3, 1]
    items, _ = weighted_axes(leaning(2000, 8, 0), 8)
    spread = (leaning(2000, 8, 3) @ items.T).std(axis=0)
    assert np.argmax(spread) == 0
    assert np.argmin(spread) == 1


def test_axes_that_nothing_lies_on_do_no_harm():
    flat = np.zeros((300, 8), np.float32)
    flat[:, :2] = np.random.default_rng(0).standard_normal((300, 2))
    for vectors in (flat, np.zeros((300, 8), np.float32), np.ones((300, 8), np.float32)):
        items, asks = weighted_axes(vectors, 8)
        assert np.isfinite(items).all()
        assert np.isfinite(asks).all()


def test_the_same_number_of_candidates_holds_more_of_the_nearest_than_on_axes_drawn_at_random():
    vectors, queries = leaning(20_000, 32, 0), leaning(50, 32, 2)
    exact = ExactIndex(vectors).search(queries, 100)[0]
    weighted, drawn = (
        recall_against_exact(
            ApproximateIndex.build(vectors, factory, refine_factor=3, threads=1).search(queries, 100)[0], exact
        )
        for factory in ("W32,PQ16x4fs", "RR32,PQ16x4fs")
    )
    assert weighted > drawn + 0.02
