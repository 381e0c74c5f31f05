"""What an item's tags are: in a release, after upserts, in filters, caps and towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.errors import MissingArtifact
from recsys.expressions.evaluation import mask_of
from recsys.expressions.parsing import parse
from recsys.filtering import FilterConfig, forbidden_by, never_judged, require_judged, rules_against
from recsys.history import History
from recsys.inference.ranker import OnnxRanker
from recsys.live import CatalogView, updated, view_of
from recsys.live.unjudged import unjudged_content
from recsys.ports import LiveItem
from recsys.ranking import rank_features
from recsys.recommender import RecommenderConfig, recommend
from recsys.release import LoadedRelease
from recsys.reranking import RerankConfig, SlateInput, SurfaceRules, choose_slate
from recsys.reranking.config import Cap
from recsys.storage.memory_store import MemoryStore
from recsys.tags import by_casefold, joined_tags
from recsys.types import Candidates, HistoryItem, Query
from tests.worlds.in_memory import ContentIsPlace, MeanOfHistory, in_memory_release, space
from tests.worlds.random_items import NOW
from tests.worlds.rankers import write_ranker
from tests.worlds.tagged_items import said, tagged_release

PICTURES = np.eye(6, dtype=np.float32)
IMAGE = space("image", 6).space_id
BLOCKED = FilterConfig(blocked_tags=("nsfw",))
ROWS = (
    said("i0", "beach"),
    said("i1", "nsfw"),
    said("i2", "nsfw", "unsure", 0.4),
    said("i3", "nsfw", "no", 0.0, by="human", head=None, model="ann", version=None),
)


def release(rows: Sequence[dict[str, Any]] = ROWS, **more: Any) -> LoadedRelease:
    """i3's catalogue says nsfw and a person no; i4's says NSFW; i5 has nothing, and no picture."""
    attributes: dict[int, dict[str, Any]] = {0: {"tags": ["sea"]}, 3: {"tags": ["nsfw", "sea"]}, 4: {"tags": ["NSFW"]}}
    items = [CatalogItem(f"i{row}", title=f"Title {row}", attributes=attributes.get(row, {})) for row in range(6)]
    plain = in_memory_release(
        items, PICTURES, counts=[6, 5, 4, 3, 2, 1], query_encoder=MeanOfHistory(6), item_encoder=ContentIsPlace(6),
        modalities=(Modality("image", IMAGE, PICTURES, np.arange(6) < 5),), **more,
    )  # fmt: skip
    return tagged_release(plain, rows)


def picture(item_id: str, at: int, **fields: Any) -> LiveItem:
    return LiveItem(item_id, fields, {"image": PICTURES[at]}, {"image": IMAGE})


def matching(view: CatalogView, text: str) -> list[str]:
    return [view.item_id(row) for row in np.flatnonzero(mask_of(parse(text), view))]


def blocked(view: CatalogView) -> list[str]:
    (_, stock), (name, mask) = forbidden_by(BLOCKED, view)
    assert not stock.any()
    assert name == "blocked_tag"
    return [view.item_id(row) for row in np.flatnonzero(mask)]


def test_an_items_tags_are_its_catalogues_and_what_is_said_without_what_people_deny() -> None:
    ids = by_casefold(["nsfw", "beach"])
    assert joined_tags(["sea", "sea"], ["beach", "sea"], [], ids) == ["sea", "beach"]
    assert joined_tags(["NSFW"], [], [], ids) == ["NSFW", "nsfw"]
    assert joined_tags(["NSFW", "nsfw"], ["beach"], ["nsfw"], ids) == ["beach"]
    assert joined_tags([1, None, "sea"], [], [], ids) == ["sea"]
    assert joined_tags("sea", ["beach"], [], ids) == ["beach"]


def test_filters_read_what_counts() -> None:
    view = view_of(release())
    assert matching(view, 'tags has "sea"') == ["i0", "i3"]
    assert matching(view, 'tags has "beach" and not tags has "nsfw"') == ["i0"]
    assert matching(view, 'tags has any ("beach", "nsfw")') == ["i0", "i1", "i4"]
    assert matching(view, 'tags_unsure has "nsfw"') == ["i2"]


def test_what_models_and_people_say_outlives_other_tags_of_the_catalogue() -> None:
    now = [LiveItem(f"i{row}", {"attributes": {"tags": ["snow", "nsfw"]}}, {}, {}) for row in (0, 3)]
    view = updated(view_of(release()), 1, now)
    assert matching(view, 'tags has "snow"') == ["i0", "i3"]
    assert matching(view, 'tags has "sea"') == []
    assert matching(view, 'tags has "beach"') == ["i0"]
    assert matching(view, 'tags has "nsfw"') == ["i0", "i1", "i4"]  # of i3 a person said no
    assert view.fields(0)["tags"] == ["snow", "nsfw", "beach"]
    view = updated(view, 2, [LiveItem("i1", {"attributes": None}, {}, {})])
    assert "i1" in matching(view, 'tags has "nsfw"')


def test_a_blocked_tag_takes_out_what_has_it_and_what_may_have_it() -> None:
    view = view_of(release())
    assert blocked(view) == ["i1", "i2", "i4"]
    assert rules_against(view, 2, BLOCKED, 0) == ("blocked_tag",)
    assert rules_against(view, 3, BLOCKED, 0) == rules_against(view, 5, BLOCKED, 0) == ()


def test_a_new_picture_is_judged_by_nobody() -> None:
    view = updated(view_of(release()), 1, [picture("i0", 5), picture("new", 0), picture("i3", 0)])
    assert blocked(view) == ["i0", "i1", "i2", "i3", "i4", "new"]
    assert view.unjudged(0) == ("image",)


def test_a_change_of_price_hides_nothing_and_neither_does_the_releases_own_picture() -> None:
    changed = [
        LiveItem("i0", {"price": 3.0, "title": "Title 0", "attributes": {"stock": 3}}, {}, {}),
        picture("i3", 3, price=2.0),
        LiveItem("words alone", {"title": "a new item"}, {"text": PICTURES[0]}, {"text": "words"}),
    ]
    assert blocked(updated(view_of(release()), 1, changed)) == ["i1", "i2", "i4"]


def test_new_words_are_unjudged_where_a_head_reads_words() -> None:
    view = updated(view_of(release()), 1, [LiveItem("i0", {"title": "Another"}, {}, {})])
    assert matching(view, 'tags_unsure has "gore"') == ["i0"]
    assert blocked(view) == ["i1", "i2", "i4"]


def test_new_words_are_unjudged_where_an_image_head_reads_them_too() -> None:
    shop = release()
    shop = replace(shop, schema=shop.schema.model_copy(update={"tag_reads": {"image": ("image", "text")}}))
    changed = [LiveItem("i0", {"title": "Another"}, {}, {}), LiveItem("new", {"title": "words"}, {}, {})]
    assert blocked(updated(view_of(shop), 1, changed)) == ["i0", "i1", "i2", "i4", "new"]


@pytest.mark.parametrize(
    ("fields", "text", "is_judged"),
    [
        ({"price": 3.0}, 1, True),  # a price is no word, whatever the vector
        ({"attributes": {"stock": 3}}, 0, True),
        ({"attributes": {"theme": "gore"}}, 1, False),
        ({"categories": ["Gore"]}, 1, False),
    ],
)
def test_categories_and_attributes_are_unjudged_words_where_they_change_the_text(
    fields: dict[str, Any], text: int, is_judged: bool
) -> None:
    words = space("text", 6).space_id
    shop = replace(release(), modalities=(Modality("text", words, PICTURES, np.arange(6) < 5),))
    said_now = {"text": PICTURES[text]}, {"text": words}
    assert unjudged_content(LiveItem("i0", fields, *said_now), 0, shop) == (() if is_judged else ("text",))
    new = LiveItem("new", {"categories": ["Gore"]}, *said_now)
    assert unjudged_content(new, 6, shop) == ("text",)


@pytest.mark.parametrize(
    ("live", "row", "kinds"),
    [
        (picture("i0", 0), 0, ()),
        (picture("i0", 1), 0, ("image",)),
        (picture("i5", 5), 5, ("image",)),  # the release has no picture of it
        (LiveItem("i0", {}, {"image": PICTURES[0]}, {"image": "another space"}), 0, ("image",)),
        (LiveItem("i0", {}, {"image": PICTURES[0, :3]}, {"image": IMAGE}), 0, ("image",)),
        (LiveItem("i0", {}, {"image": 3 * PICTURES[0]}, {"image": IMAGE}), 0, ()),
        (LiveItem("i0", {}, {"audio": PICTURES[0]}, {"audio": "a"}), 0, ("audio",)),
        (LiveItem("i0", {"image": "other.png"}, {}, {}), 0, ("image",)),
        (LiveItem("i0", {"description": "words", "title": None}, {}, {}), 0, ("text",)),
        (LiveItem("new", {"title": "words"}, {"image": PICTURES[0]}, {"image": IMAGE}), 6, ("image", "text")),
        (LiveItem("new", {"title": "words"}, {"image": PICTURES[0]}, {"image": IMAGE}, deleted=True), 6, ()),
    ],
)
def test_content_is_judged_as_long_as_it_is_the_releases(live: LiveItem, row: int, kinds: tuple[str, ...]) -> None:
    assert unjudged_content(live, row, release()) == kinds


def test_a_tag_that_no_head_covers_lets_nothing_pass() -> None:
    config = FilterConfig(blocked_tags=("nsfw", "weapon"))
    view = view_of(release())
    assert never_judged(config, view.release) == ("weapon",)
    assert forbidden_by(config, view)[-1][1].all()
    with pytest.raises(MissingArtifact, match="covers 'weapon' of blocked_tags: run `recsys tag`"):
        require_judged(config, view.release)
    require_judged(BLOCKED, view.release)


def test_a_slate_has_so_many_items_of_a_tag_as_its_cap_says_also_by_what_was_upserted() -> None:
    rows = [said(f"i{row}", "beach") for row in range(4)]
    view = updated(view_of(release(rows)), 1, [
        LiveItem("new", {"attributes": {"tags": ["beach"]}}, {}, {}),
        LiveItem("i4", {"attributes": {"tags": ["beach"]}}, {}, {}),
    ])  # fmt: skip
    order = np.array([0, 6, 4, 1, 5], np.int64)
    capped = RerankConfig(diversity=0.0, rules=SurfaceRules(caps=(Cap(column="tags", max=1),)))
    given = SlateInput(order, np.arange(5, 0, -1).astype(np.float32), 2, view.diversity, groups_of=view.kinds)
    assert order[choose_slate(given, capped).at].tolist() == [0, 5]


def test_the_towers_see_tags_as_categories_and_newcomers_their_own() -> None:
    shop = release(category_names=("tag:beach", "tag:nsfw", "tag:sea"))
    assert shop.categories_of(view_of(shop).fields(0)).tolist() == [True, False, True]
    view = updated(view_of(shop), 1, [LiveItem("new", {"attributes": {"tags": ["NSFW", "beach"]}}, {}, {})])
    assert shop.categories_of(view.live_items["new"].fields).tolist() == [True, True, False]
    assert shop.categories_of(view.fields(6)).tolist() == [True, True, False]
    moved = updated(view, 2, [LiveItem("i0", {"attributes": {"tags": []}}, {}, {})])
    assert shop.categories_of(moved.fields(0)).tolist() == [True, False, False]


def test_a_newcomer_is_placed_anew_when_its_tags_change() -> None:
    class TagsArePlace(ContentIsPlace):
        def encode_new(self, vectors: Any, categories: Any) -> Any:
            return np.append(categories, np.zeros(6 - len(categories))).astype(np.float32)

    shop = release(category_names=("tag:beach",))
    object.__setattr__(shop, "item_encoder", TagsArePlace(6))
    view = updated(view_of(shop), 1, [LiveItem("new", {"attributes": {"tags": []}}, {}, {})])
    assert not view.newcomers.vectors.any()
    view = updated(view, 2, [LiveItem("new", {"attributes": {"tags": ["beach"]}}, {}, {})])
    assert view.newcomers.vectors[0, 0] == 1


def test_tag_affinity_is_worked_out_where_the_ranker_reads_it_also_of_what_was_upserted(tmp_path: Path) -> None:
    path = write_ranker(tmp_path / "ranker.onnx", {"p_click": [4.0]}, features=("tag_affinity",))
    rows = [said("i0", "beach"), said("i1", "beach"), said("i2", "gore")]
    shop = replace(release(rows), ranker=OnnxRanker(path))
    view = updated(view_of(shop), 1, [LiveItem("new", {"attributes": {"tags": ["beach"]}}, {}, {})])
    nothing = np.empty(0, np.uint64)
    history = History(np.array([2, 0]), np.ones(2, np.int64), nothing, nothing)  # i0 was the last
    asked, zeros = np.array([1, 2, 5, 6]), np.zeros(4, np.float32)
    features = rank_features(history, Candidates(asked, zeros, np.ones(4, np.int64), zeros), view)
    assert features.tag_affinity is not None
    beach = 1 / (1 + 0.8)
    # i0 has its catalogue's own tag as well, which the others lack.
    assert features.tag_affinity.tolist() == pytest.approx([beach, 1 - beach, 0, beach])
    unread = replace(view, release=release(rows))
    assert rank_features(history, Candidates(asked, zeros, np.ones(4, np.int64), zeros), unread).tag_affinity is None


def test_what_a_ranker_makes_of_tags_is_explained(tmp_path: Path) -> None:
    path = write_ranker(tmp_path / "ranker.onnx", {"p_click": [4.0]}, features=("tag_affinity",))
    shop = replace(release([said("i0", "gore"), said("i1", "beach"), said("i2", "beach")]), ranker=OnnxRanker(path))
    query = Query("asked", NOW, history=(HistoryItem("i0"), HistoryItem("i1")), limit=1, explain=True)
    slate = recommend(query, view_of(shop), MemoryStore(), RecommenderConfig())
    (item,) = slate.items
    assert (item.item_id, item.because) == ("i2", ("i1",))
    assert sum(item.parts.values()) == pytest.approx(item.value, abs=1e-6)
    assert "explain" in slate.degraded  # the release has no id vectors: the similarity stays whole
