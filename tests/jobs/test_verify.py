"""What keeps a release from being published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.artifacts import load_dataset
from jobs.bootstrap import catalog_of, releases_of
from jobs.verify import gate_problems, index_quality
from recsys.dataset import leave_last_out
from recsys.index.exact import ExactIndex
from recsys.index.quality import SELECTIVITIES, IndexQuality
from recsys.live import view_of
from recsys.ports import Allowed
from recsys.workspace import GateConfig, Workspace


def figures(
    served: float = 0.06, popularity: float = 0.02, *, n_users: int = 500, n_items: int = 1000, recall: float = 1.0
) -> dict[str, Any]:
    of_users = {"served": {"ndcg@10": {"value": served}}, "popularity": {"ndcg@10": {"value": popularity}}}
    return {"n_items": n_items, "n_users": n_users, "index_recall@100": recall, **of_users}


def test_a_good_release_has_no_problems() -> None:
    assert gate_problems(figures(), None, GateConfig()) == ()
    assert gate_problems(figures(), figures(), GateConfig()) == ()


def test_it_must_not_serve_worse_than_popularity() -> None:
    assert gate_problems(figures(0.02, 0.02), None, GateConfig()) == ()
    (problem,) = gate_problems(figures(0.0199, 0.02), None, GateConfig())
    assert problem == "served NDCG@10 0.0199 is not above popularity's 0.0200"
    assert gate_problems(figures(0.0199, 0.02), None, GateConfig(min_lift_over_popularity=0.0)) == ()
    assert gate_problems(figures(0.06, 0.02), None, GateConfig(min_lift_over_popularity=3.1))


def test_it_must_not_serve_much_worse_than_the_current_release() -> None:
    # A loss of 10 % of .06 is .054.
    assert gate_problems(figures(0.0541), figures(0.06), GateConfig(max_loss=0.1)) == ()
    (problem,) = gate_problems(figures(0.0539), figures(0.06), GateConfig(max_loss=0.1))
    assert problem == "served NDCG@10 0.0539 fell by more than 10% from 0.0600"


def test_with_few_test_users_a_low_ndcg_is_chance_and_holds_nothing_up() -> None:
    few = figures(0.0, 0.5, n_users=99)
    assert gate_problems(few, figures(0.9), GateConfig(min_users=100)) == ()
    assert len(gate_problems(few, figures(0.9), GateConfig(min_users=99))) == 2
    nobody = {**figures(n_users=0), "served": {}, "popularity": {}}
    assert gate_problems(nobody, figures(), GateConfig(min_users=0)) == ()


def test_a_catalogue_that_lost_half_its_items_is_held_up_however_few_users_there_are() -> None:
    assert gate_problems(figures(n_items=500), figures(n_items=1000), GateConfig()) == ()
    (problem,) = gate_problems(figures(n_items=499, n_users=0), figures(n_items=1000), GateConfig())
    assert problem == "the catalogue has 499 items, and the current release has 1,000"
    assert gate_problems(figures(n_items=0, n_users=0), figures(n_items=1000), GateConfig(max_shrink=1.0)) == ()


def test_an_index_that_misses_neighbours_is_held_up() -> None:
    (problem,) = gate_problems(figures(recall=0.949), None, GateConfig())
    assert problem == "index recall@100 is 0.9490, below 0.95"


def filtered(*, recall: float = 1.0, shortest: float = 1.0, strays: int = 0) -> dict[str, Any]:
    return {"selectivity": 0.001, "recall": recall, "shortest_share": shortest, "strays": strays}


def test_an_index_that_misses_neighbours_under_a_filter_is_held_up() -> None:
    good = {**figures(), "index_filtered_recall@100": [filtered(recall=0.98)]}
    assert gate_problems(good, None, GateConfig()) == ()
    (problem,) = gate_problems({**good, "index_filtered_recall@100": [filtered(recall=0.979)]}, None, GateConfig())
    assert problem == "index recall@100 is 0.9790, below 0.98, where a filter lets 0.1 % of the items pass"
    for wrong, says in ((filtered(shortest=0.99), "too few items"), (filtered(strays=1), "not allowed")):
        (problem,) = gate_problems({**good, "index_filtered_recall@100": [wrong]}, None, GateConfig())
        assert says in problem


def test_the_recall_of_an_index_is_measured_against_exact_search_over_users_queries(released: Workspace) -> None:
    release_id = releases_of(released).current()
    assert release_id is not None
    release = catalog_of(released, release_id).release
    with_users = leave_last_out(load_dataset(released).sequences, part="test")
    without_users = with_users.sampled(0, seed=0)
    asked: list[NDArray[np.float32]] = []

    class EveryOther(ExactIndex):
        def search(
            self, queries: NDArray[np.float32], k: int, allowed: Allowed | None = None
        ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            if allowed is None:
                asked.append(queries)
            rows, similarities = super().search(queries, k, allowed)
            return rows[:, ::2], similarities[:, ::2]

    half_blind = replace(release, index=EveryOther(release.item_vectors))
    for split in (with_users, without_users):
        assert index_quality(view_of(release), split, seed=0) == IndexQuality(1.0, ())
        quality = index_quality(view_of(half_blind), split, seed=0)
        assert quality.recall == pytest.approx(0.5)
        assert [each.selectivity for each in quality.filtered] == list(SELECTIVITIES)
        assert max(each.shortest_share for each in quality.filtered[:2]) <= 0.5
    assert len(asked[0]) == len(with_users.target_users)
    assert not np.isin(asked[0], release.item_vectors).all()
    np.testing.assert_array_equal(asked[1], release.item_vectors)
