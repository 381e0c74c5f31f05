"""Which way a search takes to the allowed rows; on each, the recall of an exact search, and never a short list."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.index.approximate import ApproximateIndex
from recsys.index.exact import ExactIndex
from recsys.metrics.ann import recall_against_exact
from recsys.ports import AllowedRows, ItemIndex

N_ITEMS, DIM, K = 40_000, 64, 20
SHARES = (0.5, 0.1, 0.01, 0.001)


def clustered(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, DIM), dtype=np.float32)
    vectors = centres[rng.integers(0, 60, n)] + 0.6 * rng.standard_normal((n, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = clustered(N_ITEMS, 1), clustered(16, 2)
EXACT = ExactIndex(VECTORS)


@pytest.fixture(scope="module")
def sweep() -> ApproximateIndex:
    return ApproximateIndex.build(VECTORS, f"PQ{DIM // 2}x4fs", refine_factor=8, threads=1)


@pytest.fixture(scope="module")
def cells() -> ApproximateIndex:
    return ApproximateIndex.build(VECTORS, f"IVF64,PQ{DIM // 2}x4fs", refine_factor=8, n_probes=16, threads=1)


def random_mask(share: float) -> np.ndarray:
    return np.random.default_rng(int(1 / share)).random(N_ITEMS) < share


def live(index: ItemIndex) -> ItemIndex:
    """The same rows and one hidden, then three that came after."""
    shown = np.ones(N_ITEMS + 3, np.bool_)
    shown[7] = False
    return index.with_changes(VECTORS[:3], shown)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", ["exact", "sweep", "cells"])
@pytest.mark.parametrize("is_live", [False, True], ids=["release", "snapshot"])
def test_every_way_finds_what_an_exact_search_finds_and_is_never_short(
    name: str, share: float, is_live: bool, sweep: ApproximateIndex, cells: ApproximateIndex
) -> None:
    base: ItemIndex = {"exact": EXACT, "sweep": sweep, "cells": cells}[name]
    mask = random_mask(share)
    index, oracle = (live(base), live(EXACT)) if is_live else (base, EXACT)
    only = AllowedRows(np.append(mask, [True, False, True]) if is_live else mask, index.n_items)
    found, wanted = index.search(QUERIES, K, only)[0], oracle.search(QUERIES, K, only)[0]
    n_there = only.n_allowed - int(is_live and only.mask[7])
    assert found.shape == wanted.shape == (len(QUERIES), min(K, n_there))
    assert only.mask[found].all()
    assert all(len(set(line)) == len(line) for line in found.tolist())
    assert recall_against_exact(found, wanted) >= 0.98
    assert index.search_way(K, only) in (("exact_subset",) if name == "exact" else WAYS[name])


WAYS = {"sweep": ("exact_subset", "overfetch"), "cells": ("exact_subset", "selector")}


def test_few_rows_are_compared_exactly_and_many_are_not(sweep: ApproximateIndex, cells: ApproximateIndex) -> None:
    ways = {name: [index.search_way(K, random_mask(share)) for share in SHARES] for name, index in
            (("sweep", sweep), ("cells", cells), ("exact", EXACT))}  # fmt: skip
    assert ways["exact"] == ["exact_subset"] * 4
    assert ways["sweep"] == ["overfetch", "exact_subset", "exact_subset", "exact_subset"]
    assert ways["cells"] == ["selector", "exact_subset", "exact_subset", "exact_subset"]


def test_no_filter_and_one_that_lets_all_pass_are_none(sweep: ApproximateIndex, cells: ApproximateIndex) -> None:
    for index in (EXACT, sweep, cells):
        assert index.search_way(K) == "unfiltered"
        assert index.search_way(K, np.ones(N_ITEMS, np.bool_)) == "unfiltered"
        assert index.search_way(K, np.zeros(N_ITEMS, np.bool_)) == "exact_subset"


def test_a_snapshot_takes_the_way_of_the_index_below(sweep: ApproximateIndex) -> None:
    added_only = sweep.with_changes(VECTORS[:3], np.ones(N_ITEMS + 3, np.bool_))
    assert added_only.search_way(K) == "unfiltered"
    assert live(sweep).search_way(K) == "overfetch", "a hidden row is a filter to the index below"
    rare = np.zeros(N_ITEMS + 3, np.bool_)
    rare[[5, 7, N_ITEMS]] = True
    assert live(sweep).search_way(K, rare) == "exact_subset"


def test_a_snapshot_takes_a_prepared_filter_apart_once(
    sweep: ApproximateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = live(sweep)
    only = AllowedRows(np.append(random_mask(0.1), [True, False, True]), index.n_items)
    first = index.search(QUERIES, K, only)[0]
    monkeypatch.setattr(index, "_parts", None)
    np.testing.assert_array_equal(index.search(QUERIES, K, only)[0], first)
