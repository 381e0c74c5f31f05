"""Items with an object like one object of an item."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.errors import CorruptArtifact, InvalidRequest
from recsys.filtering import FilterConfig
from recsys.item_objects import OBJECTS_SCHEMA, ItemObjects
from recsys.live import CatalogView, updated, view_of
from recsys.ports import LiveItem
from recsys.recommender import RecommenderConfig
from recsys.similar_objects import similar_to_object
from recsys.storage.memory_store import MemoryStore
from recsys.types import Query, Slate
from tests.worlds.in_memory import in_memory_release, space
from tests.worlds.random_items import NOW
from tests.worlds.tagged_items import said, tagged_release

BIKE, DOG, LAMP = np.eye(3, dtype=np.float32)
PICTURES = np.eye(5, dtype=np.float32)
IMAGE = space("image", 5).space_id
# i0: a bike and a dog; i1: a dog, and one like a bike; i2: a lamp; i3: a bike; i4: none
SEEN = (
    (0, "bike", BIKE),
    (0, "dog", DOG),
    (1, "dog", DOG),
    (1, "bike", 0.6 * BIKE + 0.8 * LAMP),
    (2, "lamp", LAMP),
    (3, "bike", BIKE),
)


def objects() -> ItemObjects:
    numbers: dict[int, int] = {}
    rows = []
    for row, tag, _ in SEEN:
        number = numbers[row] = numbers.get(row, -1) + 1
        box = {"x0": 1, "y0": 2, "x1": 3, "y1": 4}
        rows.append({"item_id": f"i{row}", "object": number, "tag": tag, "confidence": 0.9, **box})
    table = pa.Table.from_pylist(rows, schema=OBJECTS_SCHEMA)
    ids = pa.chunked_array([pa.array([f"i{row}" for row in range(5)])])
    return ItemObjects.of_items(table, np.array([vector for *_, vector in SEEN], np.float32), ids)


def view(*live: LiveItem, rows: tuple[dict[str, Any], ...] = ()) -> CatalogView:
    items = [CatalogItem(f"i{row}", title=f"Title {row}", price=float(row)) for row in range(5)]
    there = Modality("image", IMAGE, PICTURES, np.ones(5, np.bool_))
    release = tagged_release(in_memory_release(items, np.eye(5, dtype=np.float32), modalities=(there,)), rows)
    return updated(view_of(replace(release, objects=objects())), 1, live)


def like(catalog: CatalogView, item_id: str = "i0", number: int = 0, **asked: Any) -> Slate:
    config = RecommenderConfig(filter=FilterConfig(blocked_tags=("nsfw",)))
    query = Query("asked", NOW, **{"limit": 9, **asked})
    return similar_to_object(item_id, number, query, catalog, MemoryStore(), config)


def found(slate: Slate) -> dict[str, float]:
    return {item.item_id: round(item.value, 4) for item in slate.items}


def test_the_best_object_of_each_other_item_counts() -> None:
    slate = like(view())
    assert found(slate) == {"i3": 1.0, "i1": 0.6, "i2": 0.0}
    assert [item.item_id for item in slate.items] == ["i3", "i1", "i2"]
    assert slate.items[0].reasons == ("like the bike in Title 0",)
    assert found(like(view(), number=1)) == {"i1": 1.0, "i2": 0.0, "i3": 0.0}
    assert list(found(like(view(), limit=1))) == ["i3"]


def test_the_rules_hold() -> None:
    hidden = LiveItem("i3", {"hidden": True}, {}, {})
    assert list(found(like(view(hidden)))) == ["i1", "i2"]
    assert list(found(like(view(rows=(said("i3", "nsfw", "unsure", 0.4),))))) == ["i1", "i2"]
    assert list(found(like(view(), filter="price < 2"))) == ["i1"]
    lifted = like(view(), filter="price > 99")
    assert (len(lifted.items), lifted.degraded) == (3, ("filter",))
    assert not like(view(), filter="price > 99", strict_filtering=True).items


def test_an_item_with_another_picture_has_the_objects_of_none() -> None:
    other = LiveItem("i3", {}, {"image": PICTURES[0]}, {"image": IMAGE})
    assert list(found(like(view(other)))) == ["i1", "i2"]
    with pytest.raises(InvalidRequest, match="has no object 0"):
        like(view(other), "i3")


@pytest.mark.parametrize(("item_id", "number"), [("i0", 2), ("i4", 0)])
def test_an_object_that_is_not_there_is_refused(item_id: str, number: int) -> None:
    with pytest.raises(InvalidRequest, match=f"has no object {number}"):
        like(view(), item_id, number)


def test_an_unknown_item_is_named_and_a_release_without_objects_says_so() -> None:
    assert like(view(), "nobody").missing_ids == ("nobody",)
    without = view()
    with pytest.raises(InvalidRequest, match="holds no objects"):
        like(replace(without, release=replace(without.release, objects=None)))


def test_objects_of_other_items_are_refused() -> None:
    mine = objects()
    for ids in (["i1", "i0", "i2", "i3"], ["i0"]):
        with pytest.raises(CorruptArtifact, match="of other items"):
            ItemObjects.of_items(mine.table, mine.vectors, pa.chunked_array([pa.array(ids)]))
    with pytest.raises(CorruptArtifact, match="of other items"):
        ItemObjects.of_items(mine.table, mine.vectors[1:], pa.chunked_array([pa.array(["i0", "i1", "i2", "i3"])]))
