from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.errors import ArtifactError
from recsys.events import hash64
from recsys.live import ALWAYS_MS, NEVER_MS, CatalogView, updated, view_of
from recsys.ports import LiveItem
from tests.worlds.families import DIM, SPACES, axis_of, release
from tests.worlds.in_memory import ContentIsPlace, Floats, MeanOfHistory, in_memory_release, space
from tests.worlds.random_world import RandomWorld, random_worlds


def item(item_id: str, *, text: Floats | None = None, deleted: bool = False, **fields: Any) -> LiveItem:
    vectors = {} if text is None else {"text": text}
    return LiveItem(item_id, fields, vectors, {name: SPACES[name].space_id for name in vectors}, deleted)


def rows(view: CatalogView, *item_ids: str) -> NDArray[np.int64]:
    found = [view.row(item_id) for item_id in item_ids]
    return np.array([row for row in found if row is not None], dtype=np.int64)


def what_is_said_of(view: CatalogView, item_id: str) -> dict[str, Any] | None:
    """All that a view knows of one item."""
    row = view.row(item_id)
    if row is None:
        return None
    at = np.array([row])
    content = {each.name: [part.tolist() for part in view.content(each.name, at)] for each in view.release.modalities}
    states = (view.item_hashes, view.hidden, view.availability.from_ms, view.availability.until_ms, view.log_popularity)
    return {
        "title": view.title(row),
        "fields": dict(view.fields(row)),
        "vector": view.vectors(at).tolist(),
        "content": content,
        "states": [state[row].item() for state in states],
        "id": view.item_id(row),
    }


@settings(max_examples=60, deadline=None)
@given(random_worlds(), st.integers(0, 2**32 - 1))
def test_updates_one_after_the_other_say_what_all_at_once_say(world: RandomWorld, seed: int) -> None:
    view = view_of(world.release)
    earlier = [LiveItem(each.item_id, {"title": "earlier"}, {}, {}) for each in world.live[::2]]
    for change in [*earlier, *(world.live[at] for at in np.random.default_rng(seed).permutation(len(world.live)))]:
        view = updated(view, view.version + 1, [change])
    at_once = view_of(world.release, world.live)
    assert len(view) == len(at_once)
    for item_id in {*world.release.vocabulary.item_ids, *(each.item_id for each in world.live)}:
        assert what_is_said_of(view, item_id) == what_is_said_of(at_once, item_id)


@settings(max_examples=60, deadline=None)
@given(random_worlds(), st.integers(0, 2**32 - 1))
def test_rows_and_ids_name_each_other_and_rows_may_be_asked_for_in_any_order(world: RandomWorld, seed: int) -> None:
    view, n = world.catalog, len(world.catalog)
    deleted = {item.item_id for item in view.live_items.values() if item.deleted}
    named = [view.item_id(row) for row in range(n)]
    of_newcomers = {item_id for item_id in deleted if item_id not in view.release.vocabulary}
    assert [view.row(item_id) for item_id in named] == [
        None if item_id in of_newcomers else row for row, item_id in enumerate(named)
    ]
    assert view.item_hashes.tolist() == [hash64(view.item_id(row)) for row in range(n)]
    some = np.random.default_rng(seed).integers(0, max(n, 1), 5 if n else 0)
    one_by_one = [view.vectors(np.array([row]))[0] for row in some]
    assert np.array_equal(view.vectors(some), np.array(one_by_one, np.float32).reshape(len(some), 4))


def test_a_new_item_gets_the_next_row_and_everything_works_there() -> None:
    view = view_of(release(), [item("new", text=axis_of("gamma"), title="New", price=3)])
    row = view.row("new")
    assert row == 30 == view.release.n_items
    assert len(view) == 31
    assert (view.item_id(row), view.title(row), view.fields(row)["price"]) == ("new", "New", 3)
    assert view.log_popularity[row] == 0
    vectors, present = view.content("text", np.array([row, 0]))
    assert present.tolist() == [True, True]
    assert np.array_equal(vectors[0], axis_of("gamma"))
    assert view.content("image", np.array([row]))[1].tolist() == [False]


def test_nothing_changed_is_the_same_snapshot_and_a_change_leaves_the_old_one_alone() -> None:
    before = view_of(release())
    assert updated(before, 7, []) is before
    after = updated(before, 8, [item("a0", hidden=True), item("new", title="New")])
    assert (before.version, after.version) == (0, 8)
    assert (len(before), len(after)) == (30, 31)
    assert before.row("new") is None
    assert not before.hidden.any()
    assert after.hidden[rows(after, "a0")].all()


def test_an_item_of_the_release_can_be_hidden_deleted_and_brought_back() -> None:
    view = view_of(release())
    for change, is_hidden in (
        (item("a0", hidden=True), True), (item("a0", hidden=False), False),
        (item("a0", deleted=True), True), (item("a0"), False),
    ):  # fmt: skip
        view = updated(view, view.version + 1, [change])
        assert view.hidden[0] == is_hidden
        assert len(view) == 30


def test_a_deleted_newcomer_is_unknown_keeps_its_row_and_may_come_back() -> None:
    view = view_of(release(), [item("one", title="1"), item("two", title="2")])
    without = updated(view, 2, [item("one", deleted=True)])
    assert (without.row("one"), without.row("two"), len(without)) == (None, 31, 32)
    again = updated(without, 3, [item("one", title="back")])
    assert again.title(int(rows(again, "one")[0])) == "back"
    assert (again.row("one"), without.hidden[30], again.hidden[30]) == (30, True, False)


def test_title_and_price_are_those_of_the_last_upsert() -> None:
    view = view_of(release())
    assert (view.title(0), view.fields(0)["price"]) == ("Title of a0", None)
    view = updated(view, 1, [item("a0", title="Renamed", price=9.5)])
    assert (view.title(0), view.fields(0)["price"], view.name(0)) == ("Renamed", 9.5, "Renamed")
    view = updated(view, 2, [item("a0", title=None)])
    assert (view.title(0), view.name(0)) == ("", "a0")


def test_an_upsert_of_one_field_leaves_the_others_to_the_release() -> None:
    hidden = in_memory_release([CatalogItem("a", title="Old", hidden=True)], np.eye(1, dtype=np.float32))
    view = view_of(hidden, [item("a", price=3.0)])
    assert (view.title(0), bool(view.hidden[0]), view.fields(0)["price"]) == ("Old", True, 3.0)
    assert not view_of(hidden, [item("a", hidden=False)]).hidden[0]
    assert view_of(hidden, [item("a", title=None)]).title(0) == ""


def test_the_vectors_of_the_release_s_own_items_change_with_the_next_release_only() -> None:
    view = view_of(release(), [item("a0", text=axis_of("gamma"))])
    assert np.array_equal(view.vectors(rows(view, "a0")), view.release.item_vectors[:1])
    assert np.array_equal(view.content("text", rows(view, "a0"))[0], view.release.modalities[1].vectors[:1])


def test_the_item_tower_runs_for_what_changed_and_no_more() -> None:
    families = release()
    tower: Any = families.item_encoder
    view = view_of(families, [item(f"new {number}", text=axis_of("beta")) for number in range(5)])
    assert tower.n_calls == 5
    view = updated(view, 2, [item("new 3", text=axis_of("gamma")), item("a0", price=1)])
    assert tower.n_calls == 6
    assert np.array_equal(view.vectors(rows(view, "new 3")), axis_of("gamma")[None])
    assert np.array_equal(view.vectors(rows(view, "new 4")), axis_of("beta")[None])


class Picky(ContentIsPlace):
    """Fails on what it dislikes, as long as it dislikes anything."""

    dislikes = "gamma"

    def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
        if self.dislikes and np.array_equal(vectors["text"], axis_of(self.dislikes)):
            raise ArtifactError("a tower failed on its input")
        return super().encode_new(vectors, categories)


def test_one_item_that_the_tower_fails_on_stops_no_other_and_is_tried_again() -> None:
    tower = Picky(DIM)
    families = release()
    fragile = replace(families, item_encoder=tower)
    view = view_of(fragile, [item("bad", text=axis_of("gamma")), item("good", text=axis_of("beta"))])
    assert view.newcomers.unplaced_ids == ("bad",)
    assert view.vectors(rows(view, "bad", "good")).tolist() == [[0] * DIM, axis_of("beta").tolist()]
    tower.dislikes = ""
    view = updated(view, 2, [item("another", text=axis_of("beta"))])
    assert view.newcomers.unplaced_ids == ()
    assert np.array_equal(view.vectors(rows(view, "bad"))[0], axis_of("gamma"))


def test_a_tower_that_gives_no_numbers_is_treated_as_one_that_fails() -> None:
    class NotFinite(ContentIsPlace):
        def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
            return np.full(DIM, np.inf, np.float32)

    view = view_of(replace(release(), item_encoder=NotFinite(DIM)), [item("new")])
    assert view.newcomers.unplaced_ids == ("new",)
    assert np.isfinite(view.newcomers.vectors).all()


@pytest.mark.parametrize(
    ("vector", "space_id"),
    [
        (axis_of("gamma"), "another space"),
        (np.ones(DIM + 1, np.float32), SPACES["text"].space_id),
        (np.full(DIM, np.nan, np.float32), SPACES["text"].space_id),
    ],
)
def test_content_of_another_space_or_unsound_is_not_used(vector: Floats, space_id: str) -> None:
    view = view_of(release(), [LiveItem("new", {}, {"text": vector}, {"text": space_id})])
    vectors, present = view.content("text", rows(view, "new"))
    assert (present.tolist(), vectors.tolist()) == ([False], [[0] * DIM])
    assert view.vectors(rows(view, "new")).tolist() == [[0] * DIM]  # the tower was given nothing


def test_without_an_item_tower_newcomers_have_no_vector_and_their_content_all_the_same() -> None:
    bare = replace(release(), item_encoder=None, query_encoder=None)
    view = view_of(bare, [item("new", text=axis_of("gamma"))])
    assert not view.newcomers.vectors.any()
    assert view.newcomers.unplaced_ids == ()
    assert np.array_equal(view.content("text", rows(view, "new"))[0][0], axis_of("gamma"))


def test_the_item_tower_is_told_the_categories_it_knows() -> None:
    class CategoriesArePlace(ContentIsPlace):
        def encode_new(self, vectors: Mapping[str, Floats], categories: NDArray[np.bool_]) -> Floats:
            return categories.astype(np.float32)

    shop = in_memory_release(
        [CatalogItem("i0")], np.zeros((1, 3), np.float32), category_names=("Drama", "Film-Noir", "War"),
        query_encoder=MeanOfHistory(3), item_encoder=CategoriesArePlace(3),
    )  # fmt: skip
    view = view_of(shop, [item("new", categories=["War", "Unheard of", "Drama"])])
    assert view.newcomers.vectors.tolist() == [[1, 0, 1]]


def test_times_are_kept_to_the_millisecond() -> None:
    begins = datetime(2004, 2, 29, 12, 0, 0, 1000, tzinfo=UTC)
    ends = datetime(2005, 1, 1, tzinfo=UTC)
    limited = CatalogItem("i0", available_from=begins, available_until=ends)
    shop = in_memory_release([limited, CatalogItem("i1")], np.ones((2, 2), np.float32))
    view = view_of(shop, [item("as text", available_from="2004-02-29T13:00:00.001+01:00"), item("none")])
    begins_ms = 1_078_056_000_001
    assert view.availability.from_ms.tolist() == [begins_ms, ALWAYS_MS, begins_ms, ALWAYS_MS]
    assert view.availability.until_ms.tolist() == [1_104_537_600_000, NEVER_MS, NEVER_MS, NEVER_MS]
    view = updated(view, 2, [item("i0", available_from=None, available_until="")])
    assert (view.availability.from_ms[0], view.availability.until_ms[0]) == (ALWAYS_MS, NEVER_MS)


@pytest.mark.parametrize("time", ["one of these days", "2026-05-01T12:00:00", 1_700_000_000, True, "2026-13-01T00:00Z"])
@pytest.mark.parametrize("field", ["available_from", "available_until"])
def test_an_item_whose_availability_cannot_be_read_is_hidden_and_the_others_are_not(field: str, time: Any) -> None:
    view = view_of(release(), [item("a0", **{field: time}), item("new", **{field: time}), item("fine")])
    assert np.flatnonzero(view.hidden).tolist() == rows(view, "a0", "new").tolist()


def test_all_content_side_by_side_has_the_mean_cosine_as_its_inner_product() -> None:
    image, text = np.eye(3, dtype=np.float32), np.array([[1, 0], [0.6, 0.8], [np.nan, 0]], np.float32)
    shop = in_memory_release(
        [CatalogItem(f"i{number}") for number in range(3)],
        np.zeros((3, 1), np.float32),
        modalities=(
            Modality("image", space("image", 3).space_id, image[[0, 0, 1]], np.array([True, True, False])),
            Modality("text", space("text", 2).space_id, text, np.array([True, True, False])),
        ),
    )
    vectors, present = view_of(shop).all_content(np.arange(3))
    assert present.tolist() == [True, True, False]
    assert vectors.shape == (3, 5)
    products = vectors @ vectors.T
    assert products[0, 1] == pytest.approx((1 + 0.6) / 2)
    assert products[0, 0] == pytest.approx((1 + 1) / 2)
    assert not vectors[2].any()  # what is masked does not count, not even NaN


def test_a_kind_of_content_that_two_items_lack_does_not_count_between_them() -> None:
    """Two items with words alone are as like as their words are, however many modalities the release has."""
    words = np.array([[1, 0], [0.6, 0.8], [1, 0]], np.float32)
    anything = np.array([[3, 4], [np.nan, 1], [0, 1]], np.float32)
    has_sound = np.array([False, False, True])
    shop = in_memory_release(
        [CatalogItem(f"i{number}") for number in range(3)],
        np.zeros((3, 1), np.float32),
        modalities=(
            Modality("audio", space("audio", 2).space_id, anything, has_sound),
            Modality("text", space("text", 2).space_id, words, np.ones(3, np.bool_)),
        ),
    )
    vectors, present = view_of(shop).all_content(np.arange(3))
    assert present.all()
    products = vectors @ vectors.T
    assert products.diagonal().tolist() == pytest.approx([1, 1, 1])
    assert products[0, 1] == pytest.approx(0.6)
    assert products[0, 2] == pytest.approx(1 / 2**0.5)  # the same words, and a sound that the first one lacks


def test_content_of_no_modality_has_no_width() -> None:
    shop = in_memory_release([CatalogItem("i0")], np.zeros((1, 1), np.float32))
    vectors, present = view_of(shop).all_content(np.array([0]))
    assert (vectors.shape, present.tolist()) == ((1, 0), [False])


@settings(max_examples=60, deadline=None)
@given(random_worlds(), st.integers(0, 2**32 - 1))
def test_compact_content_is_that_of_all_content_also_for_newcomers(world: RandomWorld, seed: int) -> None:
    """So narrow a world is only rounded: inner products are the same within a percent."""
    view = world.catalog
    some = np.random.default_rng(seed).integers(0, max(len(view), 1), 6 if len(view) else 0)
    small, (content, present) = view.diversity(some), view.all_content(some)
    assert small.dtype == np.float32
    assert len(small) == len(some)
    lengths = np.linalg.norm(content, axis=1, keepdims=True)
    unit_content = content / np.maximum(lengths, 1e-12) * (lengths > 1e-5)
    assert np.allclose(small @ small.T, unit_content @ unit_content.T, atol=0.03)
    assert not small[~present].any()


def test_compact_content_is_made_once_for_each_newcomer() -> None:
    view = view_of(release(), [item("one", text=axis_of("beta")), item("two", text=axis_of("gamma"))])
    after = updated(view, 2, [item("two", text=axis_of("beta")), item("three")])
    one, two, three = after.diversity(rows(after, "one", "two", "three"))
    assert np.array_equal(one, view.diversity(rows(view, "one"))[0])
    assert np.array_equal(one, two)
    assert not three.any()


def test_what_items_have_in_common_is_told_by_codes_upserts_included() -> None:
    of_x, of_y = {"brand": "x"}, {"brand": "y"}
    view = view_of(release(), [item("new", attributes=of_x), item("a0", attributes=of_x), item("b0", attributes=of_y)])
    shown = rows(view, "new", "a0", "b0", "a1")
    new, a0, b0, a1 = view.kinds("attributes.brand", shown)[:, 0].tolist()
    assert new == a0 != b0
    assert a1 == -1 not in (new, b0)
    back = updated(view, 2, [item("a0", attributes={})])
    assert back.kinds("attributes.brand", shown)[:, 0].tolist() == [new, -1, b0, -1]
