"""Search, by example; what holds for every search is in `test_every_path`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.events import hash64
from recsys.filtering import FilterConfig
from recsys.live import CatalogView, view_of
from recsys.recommender import RecommenderConfig
from recsys.search import Wanted, by_title, search, spaces_shared_with
from recsys.times import to_ms
from recsys.types import HistoryItem, Query, Slate
from tests.worlds.failing_parts import FailingIndex, OneRead
from tests.worlds.families import DIM, SPACES, axis_of, release
from tests.worlds.flaky_store import FlakyStore
from tests.worlds.in_memory import in_memory_release

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SERVED = RecommenderConfig(filter=FilterConfig(exclude_served_s=60))


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def shop(*titles: str) -> CatalogView:
    items = [CatalogItem(title, title=title) for title in titles]
    return view_of(in_memory_release(items, np.zeros((len(items), 1), np.float32), counts=range(len(items), 0, -1)))


def somebody(seen: str, served: str) -> OneRead:
    store = FlakyStore()
    store.import_histories([("ann", [HistoryItem(seen, "view", 1, 1)])])
    store.note_served("ann", np.array([hash64(served)], np.uint64), to_ms(NOW), 60)
    return OneRead(store, "up", "ann")


def test_titles_that_hold_all_the_words_come_by_popularity_else_those_that_hold_any() -> None:
    view = shop("red shoe", "blue shoe", "Red Hat")
    found = {"RED": ["red shoe", "Red Hat"], "red shoe": ["red shoe"], "green hat": ["Red Hat"], "green": [], "": []}
    for words, expected in found.items():
        slate = by_title(words, Query("request", NOW), view, FlakyStore(), RecommenderConfig())
        assert ids(slate) == expected
        assert slate.degraded == ("encode",)


def test_what_was_seen_or_served_a_moment_ago_is_found_by_title_and_by_vector() -> None:
    asked = Query("request", NOW, user_id="ann", limit=30)
    by_words = by_title("shoe", asked, shop("red shoe", "blue shoe"), somebody("red shoe", "blue shoe"), SERVED)
    assert sorted(ids(by_words)) == ["blue shoe", "red shoe"]
    wanted = Wanted({"text": axis_of("beta")})
    found = search(wanted, asked, view_of(release()), somebody("b0", "b1"), SERVED)
    assert {"b0", "b1"} <= set(ids(found))


def test_a_broken_index_of_one_kind_is_named_and_the_other_kind_answers() -> None:
    families = release()
    broken = FailingIndex(families.modalities[1].vectors)
    view = view_of(replace(families, content_indexes={**families.content_indexes, "text": broken}))
    asked, both = Query("request", NOW, limit=5), {"text": axis_of("beta"), "image": axis_of("beta")}
    slate = search(Wanted(both), asked, view, FlakyStore(), RecommenderConfig())
    assert slate.degraded == ("retrieve",)
    assert {item_id[0] for item_id in ids(slate)} == {"b"}
    assert search(Wanted({"text": axis_of("beta")}), asked, view, FlakyStore(), RecommenderConfig()).items == ()


def written_and_said() -> CatalogView:
    """Four items: one is called beta; one says beta under another name; one is half beta; one is gamma."""
    half = (axis_of("alpha") + axis_of("beta")) / np.float32(np.sqrt(2))
    written = np.stack([axis_of("beta"), axis_of("alpha"), half, axis_of("gamma")])
    said = np.stack([np.zeros(DIM, np.float32), axis_of("beta"), np.zeros(DIM, np.float32), axis_of("gamma")])
    spaces = {"text": SPACES["text"], "transcript": SPACES["text"]}
    there = {"text": np.ones(4, np.bool_), "transcript": said.any(axis=1)}
    modalities = tuple(
        Modality(name, spaces[name].space_id, vectors, there[name])
        for name, vectors in (("text", written), ("transcript", said))
    )
    items = [CatalogItem(name) for name in ("called", "says", "half", "other")]
    return view_of(in_memory_release(items, np.zeros((4, 1), np.float32), modalities=modalities, spaces=spaces))


def values_of(slate: Slate) -> dict[str, float]:
    return {item.item_id: item.value for item in slate.items}


def test_words_are_found_where_they_are_said_as_well_as_where_they_are_written() -> None:
    view = written_and_said()
    assert spaces_shared_with("text", view.release) == ("text", "transcript")
    wanted = Wanted(dict.fromkeys(("text", "transcript"), axis_of("beta")))
    slate = search(wanted, Query("request", NOW, limit=3), view, FlakyStore(), RecommenderConfig())
    values = values_of(slate)
    assert values["called"] == values["says"] == pytest.approx(1.0)
    assert values["half"] == pytest.approx(2**-0.5)


def test_what_is_like_an_item_is_like_it_on_average_over_what_is_written_and_said() -> None:
    wanted = Wanted({"text": axis_of("alpha"), "transcript": axis_of("gamma")})
    slate = search(wanted, Query("request", NOW, limit=4), written_and_said(), FlakyStore(), RecommenderConfig())
    values = values_of(slate)
    assert values["says"] == pytest.approx((1 + 0) / 2)
    assert values["other"] == pytest.approx((0 + 1) / 2)
