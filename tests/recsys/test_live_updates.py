"""What an update of the catalogue costs: a new snapshot shares with the one before all that did not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.errors import ArtifactError
from recsys.expressions.evaluation import allowed_by, lately_asked
from recsys.expressions.parsing import parse
from recsys.live import make_ready, updated, view_of
from recsys.live.layered import Layered
from recsys.live.newcomers import TRIED_AGAIN
from tests.recsys.test_live import item, rows
from tests.worlds.families import DIM, axis_of, release
from tests.worlds.in_memory import ContentIsPlace, Floats


def test_a_new_price_shares_all_that_does_not_depend_on_it() -> None:
    before = view_of(release(), [item("new", text=axis_of("beta"), price=3.0), item("a0", hidden=True)])
    in_stock = allowed_by(parse("not attributes.stock <= 0"), before)
    after = updated(before, 2, [item("c1", price=9.0), item("new", text=axis_of("beta"), price=4.0)])
    assert after.fields(after.row("new") or 0)["price"] == 4.0
    assert after.newcomers is before.newcomers
    assert after.availability is before.availability
    assert after.item_hashes is before.item_hashes
    assert after.log_popularity is before.log_popularity
    assert after.index is before.index
    assert after.content_index("text") is before.content_index("text")
    assert allowed_by(parse("not attributes.stock <= 0"), after) is in_stock
    assert allowed_by(parse("price < 9"), after) is not allowed_by(parse("price < 9"), before)


def test_the_item_tower_does_not_run_again_for_a_newcomer_whose_price_changed() -> None:
    families = release()
    tower: Any = families.item_encoder
    view = view_of(families, [item("new", text=axis_of("beta"), categories=["x"])])
    updated(view, 2, [item("new", text=axis_of("beta"), categories=["x"], price=1)])
    assert tower.n_calls == 1
    updated(view, 3, [item("new", text=axis_of("beta"), categories=["y"])])
    assert tower.n_calls == 2
    updated(view, 4, [item("new", deleted=True)])
    assert tower.n_calls == 2


def test_hiding_an_item_makes_another_index_and_leaves_the_newcomers_alone() -> None:
    before = view_of(release(), [item("new", text=axis_of("beta"))])
    after = updated(before, 2, [item("b0", hidden=True)])
    assert after.newcomers is before.newcomers
    assert after.availability.until_ms is before.availability.until_ms
    found, _ = after.index.search(axis_of("beta")[None], 40)
    assert not np.isin(rows(after, "b0"), found)[0]
    assert np.isin(rows(before, "b0"), before.index.search(axis_of("beta")[None], 40)[0])[0]


def test_a_tower_that_always_fails_is_asked_for_a_few_of_those_that_wait_in_each_update() -> None:
    class Never(ContentIsPlace):
        def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
            self.n_calls += 1
            raise ArtifactError("a tower failed on its input")

    tower = Never(DIM)
    view = view_of(replace(release(), item_encoder=tower), [item(f"new {number}") for number in range(3 * TRIED_AGAIN)])
    waiting = view.newcomers.unplaced_ids
    for _ in range(3):
        n_before = tower.n_calls
        view = updated(view, view.version + 1, [item("c1", price=1.0)])
        assert tower.n_calls - n_before == TRIED_AGAIN
    assert view.newcomers.unplaced_ids == waiting  # all of them had their turn
    assert sorted(waiting) == sorted(view.newcomers.ids)


def test_what_was_asked_of_one_snapshot_is_ready_in_the_next() -> None:
    before = view_of(release())
    allowed_by(parse("price < 3"), before)
    after = updated(before, 2, [item("c1", price=1.0)])
    make_ready(after, before)
    assert lately_asked(after, 9) == ["price < 3"]
    again = updated(after, 3, [item("c2", price=1.0)])
    make_ready(again, after)
    assert lately_asked(again, 9) == ["price < 3"]
    another = view_of(release("r2"), [item("c1", price=1.0)])
    make_ready(another, again)
    assert lately_asked(another, 9) == ["price < 3"]


@given(st.lists(st.dictionaries(st.integers(0, 3000), st.integers(), max_size=700), max_size=6))
def test_a_layered_mapping_is_a_mapping_whose_earlier_forms_stay(steps: list[dict[int, int]]) -> None:
    plain: dict[int, int] = {}
    forms: list[tuple[Layered[int, int], dict[int, int]]] = []
    mapping = Layered[int, int]()
    for entries in steps:
        mapping, plain = mapping.with_entries(entries), {**plain, **entries}
        forms.append((mapping, plain))
    for now, then in forms:
        assert dict(now) == then
        assert list(now) == list(then)
        assert len(now) == len(then)
        assert all((key in now) == (key in then) and now.get(key) == then.get(key) for key in range(0, 3000, 97))
