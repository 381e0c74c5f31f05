"""From a filter to a search under it, through a catalogue with upserts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from recsys.catalog import CatalogItem
from recsys.expressions.evaluation import allowed_by
from recsys.expressions.parsing import parse
from recsys.expressions.planning import plan_search
from recsys.expressions.recent import RecentlyUsed
from recsys.expressions.syntax import Expression, Node
from recsys.index.exact import ExactIndex
from recsys.live import CatalogView, view_of
from recsys.ports import LiveItem
from tests.worlds.in_memory import in_memory_release
from tests.worlds.random_expressions import catalogues, is_true, nodes


@settings(max_examples=100, deadline=None)
@given(catalogues(), nodes())
def test_a_search_under_a_filter_answers_with_all_that_pass_and_nothing_else(view: CatalogView, node: Node) -> None:
    index = ExactIndex(np.eye(max(len(view), 1), dtype=np.float32)[: len(view)])
    found = index.search(np.ones((1, index.dim), np.float32), len(view), allowed_by(Expression(node), view))[0]
    assert sorted(found[0].tolist()) == [row for row in range(len(view)) if is_true(node, view, row)]


def test_a_plan_is_made_once_and_says_which_way_the_search_goes() -> None:
    vectors = np.random.default_rng(0).standard_normal((1000, 4)).astype(np.float32)
    items = [CatalogItem(f"i{row}", attributes={"year": 1000 + row}) for row in range(1000)]
    view = view_of(in_memory_release(items, vectors), [LiveItem("i3", {"attributes": {"year": 1}}, {}, {})])
    only = allowed_by(parse("attributes.year >= 1990"), view)
    assert view.index.search_way(5, only) == "exact_subset"
    assert view.index.search(vectors[:1], 20, only)[0].shape == (1, 10)
    assert allowed_by(parse("attributes.year >= 1990.0"), view) is only


def test_a_planned_mask_is_read_only() -> None:
    mask = np.array([True, False])
    assert plan_search(mask).n_allowed == 1
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = False


def test_what_was_used_longest_ago_leaves_first() -> None:
    kept: RecentlyUsed[int] = RecentlyUsed(2)
    assert [kept.get_or_make(key, lambda key=key: int(key)) for key in "121313"] == [1, 2, 1, 3, 1, 3]
    assert kept.get("2") is None
    assert (len(kept), kept.n_hits, kept.n_misses) == (2, 3, 4)
