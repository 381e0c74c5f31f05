"""A deleted id never returns, an added one is found at once, and a snapshot stays what it was."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.index.approximate import ApproximateIndex
from recsys.index.config import IndexConfig
from recsys.index.exact import ExactIndex
from recsys.index.planner import build_index
from recsys.ports import ItemIndex

DIM, N_ITEMS = 4, 1200
VECTORS = np.random.default_rng(0).standard_normal((N_ITEMS, DIM)).astype(np.float32)
NONE = np.empty((0, DIM), np.float32)
BASES: dict[str, ItemIndex] = {
    "exact": ExactIndex(VECTORS),
    "sweep": ApproximateIndex.build(VECTORS, "RR4,PQ2x4fs", refine_factor=1, threads=1),
    "cells": ApproximateIndex.build(VECTORS, "RR4,IVF16,PQ2x4fs", refine_factor=1, threads=1),
}

Step = tuple[str, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "put again", "search"]), st.integers(0, 10**6)), max_size=30
)


@dataclass
class Catalogue:
    """What the caller keeps: which row an id has now; beside it the oracle, id → vector."""

    index: ItemIndex
    row_of: dict[str, int] = field(default_factory=lambda: {f"item {row}": row for row in range(N_ITEMS)})
    vectors: dict[str, np.ndarray] = field(
        default_factory=lambda: {f"item {row}": VECTORS[row] for row in range(N_ITEMS)}
    )

    def put(self, item_id: str, vector: np.ndarray) -> None:
        """A new id, or a new vector of a known one: its old row is hidden in the same step."""
        shown = np.ones(self.index.n_items + 1, np.bool_)
        if item_id in self.row_of:
            shown[self.row_of[item_id]] = False
        self.row_of[item_id], self.vectors[item_id] = self.index.n_items, vector
        self.index = self.index.with_changes(vector[None], shown)

    def delete(self, item_id: str) -> None:
        shown = np.ones(self.index.n_items, np.bool_)
        shown[self.row_of.pop(item_id)] = False
        del self.vectors[item_id]
        self.index = self.index.with_changes(NONE, shown)

    def found(self, query: np.ndarray, k: int) -> list[str]:
        id_of = {row: item_id for item_id, row in self.row_of.items()}
        return [id_of[row] for row in self.index.search(query[None], k)[0][0].tolist()]

    def nearest(self, query: np.ndarray, k: int) -> set[str]:
        return set(sorted(self.vectors, key=lambda item_id: -float(self.vectors[item_id] @ query))[:k])


@pytest.mark.parametrize("base", BASES)
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_after_any_steps_a_search_sees_what_is_there_and_nothing_else(base, steps):
    catalogue = Catalogue(BASES[base])
    for number, (what, seed) in enumerate([*steps, ("search", 0)]):
        rng = np.random.default_rng(seed)
        vector = rng.standard_normal(DIM).astype(np.float32)
        there = sorted(catalogue.vectors)
        if what == "add":
            catalogue.put(f"new {number}", vector)
        elif what == "delete":
            catalogue.delete(there[seed % len(there)])
        elif what == "put again":
            catalogue.put(there[seed % len(there)], vector)
        else:
            found = catalogue.found(vector, 10)  # a row that no id has any more would be a KeyError
            assert len(set(found)) == 10
            if base == "exact":
                assert set(found) == catalogue.nearest(vector, 10)


def test_a_search_that_began_before_a_change_sees_the_state_before_it():
    before = BASES["exact"].with_changes(VECTORS[:1] * 9, np.ones(N_ITEMS + 1, np.bool_))
    shown = np.ones(N_ITEMS + 1, np.bool_)
    shown[N_ITEMS] = False
    after = before.with_changes(NONE, shown)
    assert before.search(VECTORS[:1], 1)[0].tolist() == [[N_ITEMS]]
    assert N_ITEMS not in after.search(VECTORS[:1], N_ITEMS + 1)[0]


def test_what_was_hidden_stays_hidden_when_more_is_added():
    shown = np.ones(N_ITEMS, np.bool_)
    shown[7] = False
    once = BASES["sweep"].with_changes(NONE, shown)
    twice = once.with_changes(VECTORS[7:8], np.ones(N_ITEMS + 1, np.bool_))
    rows = twice.search(VECTORS[7:8], N_ITEMS + 1)[0][0].tolist()
    assert 7 not in rows
    assert N_ITEMS in rows
    assert len(rows) == N_ITEMS


@pytest.mark.parametrize("base", BASES)
def test_a_list_is_as_long_as_what_is_shown_also_when_nearly_all_is_hidden(base):
    shown = np.zeros(N_ITEMS + 2, np.bool_)
    shown[[3, 900, N_ITEMS]] = True
    live = BASES[base].with_changes(VECTORS[:2], shown)
    rows, _ = live.search(VECTORS[:5], 100)
    assert [sorted(line) for line in rows.tolist()] == [[3, 900, N_ITEMS]] * 5
    allowed = np.zeros(N_ITEMS + 2, np.bool_)
    allowed[[900, 901, N_ITEMS, N_ITEMS + 1]] = True
    assert sorted(live.search(VECTORS[:1], 9, allowed)[0][0].tolist()) == [900, N_ITEMS]


def test_nothing_shown_is_nothing_found():
    live = BASES["exact"].with_changes(VECTORS[:1], np.zeros(N_ITEMS + 1, np.bool_))
    assert live.search(VECTORS[:2], 5)[0].shape == (2, 0)
    assert live.search_within(VECTORS[0], np.arange(N_ITEMS + 1), 5)[0].shape == (0,)


def test_the_next_build_holds_what_was_added_and_nothing_hidden():
    """Compaction: an index over what is shown answers as the snapshot did, in the rows of the new catalogue."""
    rng = np.random.default_rng(5)
    added, shown = rng.standard_normal((50, DIM)).astype(np.float32), rng.random(N_ITEMS + 50) < 0.7
    live = BASES["exact"].with_changes(added, shown)
    kept = np.flatnonzero(shown)
    rebuilt = build_index(np.concatenate([VECTORS, added])[kept], IndexConfig(kind="exact"))
    queries = rng.standard_normal((20, DIM)).astype(np.float32)
    assert kept[rebuilt.search(queries, 30)[0]].tolist() == live.search(queries, 30)[0].tolist()


def test_masks_and_vectors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="shape"):
        BASES["exact"].with_changes(VECTORS[:2], np.ones(N_ITEMS, np.bool_))
    with pytest.raises(ValueError, match="NaN"):
        BASES["exact"].with_changes(np.full((1, DIM), np.nan, np.float32), np.ones(N_ITEMS + 1, np.bool_))
    with pytest.raises(ValueError, match="rows must lie in"):
        BASES["exact"].with_changes(NONE, np.ones(N_ITEMS, np.bool_)).search_within(VECTORS[0], np.array([N_ITEMS]), 1)
