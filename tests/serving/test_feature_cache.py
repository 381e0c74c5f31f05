from __future__ import annotations

import numpy as np

from recsys.ports import UserState
from recsys.types import HistoryItem
from serving.bounded_cache import BoundedCache
from serving.feature_cache import CachedContentEncoder, KnownStates, VectorCache
from serving.telemetry import Telemetry
from tests.serving.world import FamilyNames


def test_the_least_recently_used_entry_leaves_first() -> None:
    cache: BoundedCache[str, int] = BoundedCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)


def test_weights_bound_the_whole() -> None:
    cache: BoundedCache[str, str] = BoundedCache(10, weight=len)
    for word in ("four", "five5", "one"):
        cache.put(word, word)
    assert cache.get("four") is None  # 4 + 5 + 3 = 12 > 10
    assert len(cache) == 2
    cache.put("larger than all", "larger than all")
    assert len(cache) == 0
    cache.put("five5", "12345")
    cache.put("five5", "123")
    cache.put("seven77", "1234567")
    assert len(cache) == 2  # 3 + 7 = 10: the replaced 5 is no longer counted


def test_what_is_dropped_weighs_nothing_any_more() -> None:
    cache: BoundedCache[str, str] = BoundedCache(10, weight=len)
    cache.put("a", "12345678")
    cache.drop("a")
    cache.drop("never there")
    cache.put("b", "1234567890")
    assert (cache.get("a"), len(cache)) == (None, 1)


def test_text_and_picture_of_the_same_bytes_are_two_keys() -> None:
    inner = FamilyNames()
    encoder = CachedContentEncoder(inner, VectorCache("content_vector", 10, Telemetry()))
    text, picture = encoder.encode_text("PICTURE alpha"), encoder.encode_image(b"PICTURE alpha")
    np.testing.assert_array_equal(text, picture)
    assert inner.n_calls == 2


def test_long_histories_fill_the_states_sooner() -> None:
    short, long = UserState((HistoryItem("a"),)), UserState(tuple(HistoryItem(str(number)) for number in range(8)))
    states = KnownStates(short.size_bytes + long.size_bytes - 1, Telemetry())
    states.remember("short", short)
    states.remember("long", long)
    assert states.last_known("short") is None
    assert states.last_known("long") is long
    states.forget("long")
    assert states.last_known("long") is None
