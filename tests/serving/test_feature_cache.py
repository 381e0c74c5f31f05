from __future__ import annotations

import numpy as np

from recsys.ports import UserState
from recsys.types import HistoryItem
from serving.bounded_cache import BoundedCache
from serving.feature_cache import CachedContentEncoder, CachedQueryEncoder, KnownStates, VectorCache
from serving.telemetry import Telemetry
from tests.serving.world import DIM, FamilyNames, MeanOfHistory


def cached_tower(capacity: int = 10) -> tuple[CachedQueryEncoder, MeanOfHistory, Telemetry]:
    telemetry, tower = Telemetry(), MeanOfHistory()
    return CachedQueryEncoder(tower, VectorCache("query_vector", capacity, telemetry), "r1"), tower, telemetry


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


def test_a_capacity_of_zero_keeps_nothing() -> None:
    encoder, tower, _ = cached_tower(capacity=0)
    for _ in range(2):
        encoder.encode(np.ones((1, DIM), np.float32), np.array([1]))
    assert tower.n_calls == 2


def test_any_change_of_the_input_is_another_key() -> None:
    encoder, tower, telemetry = cached_tower()
    history, types, profile = np.ones((2, DIM), np.float32), np.array([1, 1]), np.ones(4, np.float32)
    inputs = [
        (history, types, None),
        (history * 2, types, None),
        (history, np.array([1, 2]), None),
        (history, types, profile),
        (history[:1], types[:1], None),
        (np.empty((0, DIM), np.float32), np.empty(0, np.int64), None),
    ]
    for _ in range(2):
        for each in inputs:
            encoder.encode(*each)
    assert tower.n_calls == len(inputs)
    assert 'recsys_cache_requests_total{cache="query_vector",result="hit"} 6.0' in telemetry.rendered().decode()


def test_two_releases_share_a_cache_and_no_vector() -> None:
    telemetry = Telemetry()
    cache = VectorCache("query_vector", 10, telemetry)
    towers = [MeanOfHistory(), MeanOfHistory()]
    for tower, release_id in zip(towers, ("r1", "r2"), strict=True):
        CachedQueryEncoder(tower, cache, release_id).encode(np.ones((1, DIM), np.float32), np.array([1]))
    assert [tower.n_calls for tower in towers] == [1, 1]


def test_text_and_picture_of_the_same_bytes_are_two_keys() -> None:
    inner = FamilyNames()
    encoder = CachedContentEncoder(inner, VectorCache("content_vector", 10, Telemetry()))
    text, picture = encoder.encode_text("PICTURE alpha"), encoder.encode_image(b"PICTURE alpha")
    np.testing.assert_array_equal(text, picture)
    assert inner.n_calls == 2


def test_long_histories_fill_the_states_sooner() -> None:
    states = KnownStates(10, Telemetry())
    states.remember("short", UserState((HistoryItem("a"),)))
    states.remember("long", UserState(tuple(HistoryItem(str(number)) for number in range(8))))
    assert states.last_known("short") is None  # 2 + 9 = 11 > 10
    assert states.last_known("long") is not None
