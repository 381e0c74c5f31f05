from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.filtering import OUT_OF_STOCK, FilterConfig
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem
from recsys.recommender import RecommenderConfig, Surroundings
from recsys.similar import SimilarConfig
from recsys.similar import similar as similar_to
from recsys.storage.memory_store import MemoryStore
from recsys.types import Query, Slate
from tests.worlds.families import SPACES, axis_of, release
from tests.worlds.in_memory import Floats, MeanOfHistory, in_memory_release, neighbours_of, space
from tests.worlds.random_items import NOW, item_id_of
from tests.worlds.random_rules import says
from tests.worlds.random_world import RandomWorld, random_worlds

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def similar(
    item_id: str, catalog: CatalogView, *, now: datetime, limit: int, config: SimilarConfig | None = None
) -> Slate:
    """For nobody in particular."""
    query = Query("request", now, limit=limit)
    return similar_to(item_id, query, catalog, MemoryStore(), RecommenderConfig(), plan=config)


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def of_lengths(*rows: Sequence[float]) -> Floats:
    vectors = np.array(rows, np.float32)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / lengths, dtype=np.float32)


CONFIGS = st.builds(SimilarConfig, quota=st.sampled_from([1, 3, 300]), max_scanned_items=st.sampled_from([0, 5, 1000]))


@settings(max_examples=120, deadline=None)
@given(random_worlds(), st.integers(0, 30), CONFIGS)
def test_what_nobody_may_see_is_never_similar_and_no_item_comes_twice(
    world: RandomWorld, number: int, config: SimilarConfig
) -> None:
    item_id, limit = item_id_of(number), world.query.limit
    slate = similar(item_id, world.catalog, now=NOW, limit=limit, config=config)
    if world.catalog.row(item_id) is None:
        assert (slate.items, slate.missing_ids) == ((), (item_id,))
        return
    allowed = {each for each in world.shown if not says(OUT_OF_STOCK, world.items[each])} - {item_id}
    assert set(ids(slate)) <= allowed
    assert len(set(ids(slate))) == len(slate.items) <= limit
    values = [item.value for item in slate.items]
    assert values == sorted(values, reverse=True)
    assert [item.position for item in slate.items] == list(range(len(slate.items)))
    assert all(item.reasons and all(reason.strip() for reason in item.reasons) for item in slate.items)
    if world.tower != "none" and world.index != "fails":  # item vectors reach the whole catalogue
        assert len(slate.items) == min(limit, len(allowed))


def test_similar_items_are_of_the_same_family_and_say_like_what() -> None:
    slate = similar("b4", view_of(release()), now=NOON, limit=9)
    assert sorted(ids(slate)) == [f"b{number}" for number in range(10) if number != 4]
    assert {item.reasons for item in slate.items} == {("like Title of b4",)}
    assert (slate.release, slate.degraded, slate.missing_ids) == ("r1", (), ())
    assert [stage.name for stage in slate.trace] == ["hydrate", "retrieve", "filter", "rank", "expose"]


def test_an_unknown_item_has_no_neighbours_and_is_named() -> None:
    slate = similar("nothing", view_of(release()), now=NOON, limit=5)
    assert (slate.items, slate.missing_ids, slate.release) == ((), ("nothing",), "r1")


def test_a_newcomer_is_found_from_its_family_and_finds_it() -> None:
    new = LiveItem("new", {"title": "New"}, {"text": axis_of("beta")}, {"text": SPACES["text"].space_id})
    catalog = view_of(release(), [new])
    assert "new" in ids(similar("b4", catalog, now=NOON, limit=10))
    slate = similar("new", catalog, now=NOON, limit=10)
    assert sorted(ids(slate)) == [f"b{number}" for number in range(10)]
    assert slate.items[0].reasons == ("like New",)


def test_the_value_is_the_mean_cosine_over_what_both_have() -> None:
    """Item vectors, pictures and words, each with a cosine of its own; the third item's picture is masked."""
    shop = in_memory_release(
        [CatalogItem(f"i{row}") for row in range(4)],
        2 * of_lengths([1, 0], [0.8, 0.6], [0, 1], [1, 0]),
        modalities=(
            Modality("image", space("image", 2).space_id, of_lengths([1, 0], [0, 1], [1, 0], [0.6, 0.8]),
                     np.array([True, True, False, True])),
            Modality("text", space("text", 2).space_id, of_lengths([0, 1], [0, 1], [0.6, 0.8], [1, 0]),
                     np.ones(4, np.bool_)),
        ),
        query_encoder=MeanOfHistory(2),
    )  # fmt: skip
    slate = similar("i0", view_of(shop), now=NOON, limit=5)
    values = {item.item_id: item.value for item in slate.items}
    assert ids(slate) == ["i1", "i3", "i2"]
    assert values["i1"] == pytest.approx((0.8 + 0.0 + 1.0) / 3)
    assert values["i3"] == pytest.approx((1.0 + 0.6 + 0.0) / 3)
    assert values["i2"] == pytest.approx((0.0 + 0.8) / 2)


def test_without_towers_content_and_behaviour_find_what_is_alike() -> None:
    words = of_lengths([1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0, 1])
    bare = in_memory_release(
        [CatalogItem(f"i{row}") for row in range(4)],
        np.zeros((4, 1), np.float32),
        neighbours=neighbours_of([[(3, 1.0)], [], [], []]),
        modalities=(Modality("text", space("text", 3).space_id, words, np.array([True, False, True, True])),),
    )
    slate = similar("i0", view_of(bare), now=NOON, limit=5)
    assert ids(slate) == ["i2", "i3"]  # i1 says nothing and follows nothing
    assert [(item.source, item.reasons) for item in slate.items] == [
        ("content", ("like i0",)),
        ("similar", ("often chosen with i0",)),
    ]


def test_hidden_items_do_not_shorten_the_answer() -> None:
    """The fifty nearest are hidden, and only three are asked for at first."""
    angles = np.linspace(0, 1, 60)
    shop = in_memory_release(
        [CatalogItem(f"i{row}", hidden=0 < row <= 50) for row in range(60)],
        np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32),
        query_encoder=MeanOfHistory(2),
    )
    slate = similar("i0", view_of(shop), now=NOON, limit=3, config=SimilarConfig(quota=3))
    assert ids(slate) == ["i51", "i52", "i53"]


def test_beyond_the_scan_content_only_orders_what_else_is_found() -> None:
    words = of_lengths(*[[1, 0]] * 5)
    bare = in_memory_release(
        [CatalogItem(f"i{row}") for row in range(5)],
        np.zeros((5, 1), np.float32),
        neighbours=neighbours_of([[(2, 0.5)], [], [], [], []]),
        modalities=(Modality("text", space("text", 2).space_id, words, np.ones(5, np.bool_)),),
    )
    assert len(similar("i0", view_of(bare), now=NOON, limit=9).items) == 4
    assert ids(similar("i0", view_of(bare), now=NOON, limit=9, config=SimilarConfig(max_scanned_items=4))) == ["i2"]


def test_newcomers_that_match_a_filter_are_not_crowded_out_by_those_that_do_not() -> None:
    live = [
        LiveItem("match", {"price": 1.0}, {}, {}),
        *(LiveItem(f"new {n}", {"price": 9.0}, {}, {}) for n in range(9)),
    ]
    bare = in_memory_release([CatalogItem("a")], np.zeros((1, 2), np.float32))
    query, plan = Query("request", NOW, limit=9, filter="price < 2"), SimilarConfig(quota=1)
    slate = similar_to("a", query, view_of(bare, live), MemoryStore(), RecommenderConfig(), plan=plan)
    assert ids(slate) == ["match"]


def test_a_change_while_a_lifted_filter_answers_takes_out_nothing_that_it_does_not_forbid() -> None:
    view = view_of(release())
    later = updated(view, 2, [LiveItem("c2", {}, {}, {}, deleted=True)])
    around = Surroundings(latest=lambda: later)
    config = RecommenderConfig(filter=FilterConfig(only=('item_id != "c3"',)))
    query = Query("request", NOW, limit=4, filter="price < 2")
    slate = similar_to("c1", query, view, MemoryStore(), config, around)
    assert slate.degraded == ("filter",)
    assert len(slate.items) in (3, 4)
    assert not {"c1", "c2", "c3"} & set(ids(slate))
