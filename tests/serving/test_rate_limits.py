from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from recsys.errors import StoreUnavailable
from recsys.ports import BucketDraw, Drawn
from recsys.serving_config import ApiKeyConfig
from serving.rate_leases import RateLeases
from serving.rate_limits import CREDIT_SHARE, Bucket, RateLimits
from tests.serving.asking import refused
from tests.serving.conftest import Serve


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(bucket: Bucket, now: float, tries: int) -> int:
    return sum(bucket.take(now) == 0.0 for _ in range(tries))


def test_a_burst_passes_at_once_and_then_the_rate() -> None:
    bucket = Bucket("shop", 10, 5, n_workers=1, now=0.0)
    assert taken(bucket, 0.0, 20) == 5
    assert taken(bucket, 1.0, 20) == 5
    assert sum(taken(bucket, 1.0 + step / 100, 1) for step in range(1, 101)) == 10
    assert 0 < bucket.take(2.0) <= 0.1


def test_each_worker_alone_has_its_share() -> None:
    bucket = Bucket("shop", 10, 8, n_workers=4, now=0.0)
    assert taken(bucket, 0.0, 20) == 2
    assert sum(taken(bucket, step / 100, 1) for step in range(1, 1001)) == 25
    assert taken(Bucket("rare", 1, 1, n_workers=4, now=0.0), 0.0, 5) == 1


@given(
    rate=st.floats(0.1, 1000),
    burst=st.integers(1, 500),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 200)), max_size=40),
)
def test_no_more_than_the_rate_and_one_burst_ever_pass(rate: float, burst: int, steps: list[tuple[float, int]]) -> None:
    bucket, now, passed = Bucket("shop", rate, burst, n_workers=1, now=0.0), 0.0, 0
    for pause_s, tries in steps:
        now += pause_s
        passed += taken(bucket, now, tries)
        assert passed <= rate * now + burst + 1e-6 * passed


def test_a_refusal_says_when_to_come_back(serve: Serve) -> None:
    digest = hashlib.sha256(b"k").hexdigest()
    limited = {"name": "shop", "sha256": digest, "scopes": ["read"], "rate_per_s": 0.25, "burst": 2}
    free = {"name": "free", "sha256": hashlib.sha256(b"f").hexdigest(), "scopes": ["admin"]}
    client: TestClient = serve(api_keys=(limited, free))
    for _ in range(2):
        response = client.post("/v1/recommendations", json={}, headers={"x-api-key": "k"})
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("ratelimit")]
    response = client.post("/v1/recommendations", json={}, headers={"x-api-key": "k"})
    assert refused(response, 429)["type"] == "urn:recsys:problem:rate-limited"
    assert response.headers["retry-after"] == response.headers["ratelimit-reset"] == "4"
    assert (response.headers["ratelimit-limit"], response.headers["ratelimit-remaining"]) == ("2", "0")
    assert client.post("/v1/recommendations", json={}, headers={"x-api-key": "f"}).status_code == 200
    assert "recsys_rate_limited_total 1.0" in client.get("/metrics", headers={"x-api-key": "f"}).text


def test_without_a_rate_there_is_no_bucket_and_no_refusal() -> None:
    limits = RateLimits([ApiKeyConfig(name="shop", sha256="ab" * 32, scopes=("read",))])
    assert not limits.buckets
    assert limits.refusal(None) is None


class OneBucket:
    """Shared buckets as the port promises them, for a world of one bucket and any number of workers."""

    def __init__(self, clock: Clock, rate: float, burst: int) -> None:
        self.clock, self.rate, self.burst = clock, rate, burst
        self.tokens, self.at = float(burst), clock()
        self.held: dict[str, int] = {}
        self.up = True
        self.n_asked = 0

    def of(self, worker: str) -> OneBucketOf:
        return OneBucketOf(self, worker)


class OneBucketOf:
    def __init__(self, bucket: OneBucket, worker: str) -> None:
        self.bucket, self.worker = bucket, worker

    def draw(self, draws: Sequence[BucketDraw]) -> Sequence[Drawn]:
        one, (ask,) = self.bucket, draws
        one.n_asked += 1
        if not one.up:
            raise StoreUnavailable("it does not answer; start it")
        now = one.clock()
        elsewhere = sum(held for worker, held in one.held.items() if worker != self.worker)
        one.tokens = min(one.tokens + (now - one.at) * one.rate + ask.held, one.burst - elsewhere)
        one.at = now
        granted = max(0, min(ask.want, int(one.tokens)))
        one.tokens -= granted
        one.held[self.worker] = granted
        return [Drawn(granted, one.tokens)]

    def close(self) -> None:
        pass


def worker_of(shared: OneBucket, name: str, n_workers: int) -> tuple[Bucket, RateLeases]:
    bucket = Bucket("shop", shared.rate, shared.burst, n_workers, shared.clock())
    leases = RateLeases([bucket], shared.of(name), shared.clock)
    leases.draw()
    return bucket, leases


@given(
    rate=st.sampled_from([1.0, 20.0, 200.0]),
    burst=st.integers(1, 100),
    n_workers=st.integers(1, 4),
    moves=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60), st.floats(0.01, 0.3)), max_size=60),
)
def test_over_all_workers_no_more_passes_than_the_limit_and_the_credit(
    rate: float, burst: int, n_workers: int, moves: list[tuple[int, int, float]]
) -> None:
    clock = Clock()
    shared, began, passed = OneBucket(clock, rate, burst), clock.now, 0
    workers = [worker_of(shared, str(number), n_workers) for number in range(n_workers)]
    for number, tries, pause_s in moves:
        bucket, leases = workers[number % n_workers]
        passed += taken(bucket, clock.now, tries)
        clock.now += pause_s
        leases.draw()
        most = rate * (clock.now - began) + burst * (1 + CREDIT_SHARE) + n_workers
        assert passed <= most + 1e-6


def test_one_busy_worker_gets_the_whole_rate_and_gives_back_what_it_does_not_use() -> None:
    clock = Clock()
    shared = OneBucket(clock, 200, 100)
    (busy, leases), (late, late_leases) = (worker_of(shared, name, 4) for name in "ab")
    passed = 0
    for _ in range(100):
        for _ in range(10):
            clock.now += 0.01
            passed += taken(busy, clock.now, 10)
        leases.draw()
    assert 0.95 * 200 * 10 <= passed <= 200 * 10 + 100 * 1.25 + 4
    for _ in range(3):
        clock.now += 0.5
        leases.draw()
    assert shared.held == {"a": 0, "b": 0}
    assert taken(late, clock.now, 100) == 100 * CREDIT_SHARE // 4
    late_leases.draw()
    assert taken(late, clock.now, 100) > 40


def test_without_a_request_nothing_is_asked() -> None:
    clock = Clock()
    shared = OneBucket(clock, 10, 10)
    bucket, leases = worker_of(shared, "a", 2)
    bucket.take(clock.now)
    for _ in range(20):
        clock.now += 0.1
        leases.draw()
    assert shared.n_asked <= 4


def test_while_the_shared_buckets_are_down_a_worker_lets_its_share_pass_and_then_shares_again() -> None:
    clock = Clock()
    shared = OneBucket(clock, 100, 20)
    bucket, leases = worker_of(shared, "a", 2)
    shared.up = False
    bucket.take(clock.now)
    assert not leases.draw()
    passed = 0
    for _ in range(100):
        clock.now += 0.1
        passed += taken(bucket, clock.now, 50)
        leases.draw()
    assert 0.9 * 50 * 10 <= passed <= 50 * 10 + 10
    shared.up = True
    assert leases.draw()
    clock.now += 1
    leases.draw()
    assert taken(bucket, clock.now, 2) == 2


def test_a_store_that_is_no_redis_has_no_shared_buckets(tmp_path: Path) -> None:
    from recsys.storage.urls import open_shared_buckets

    for url in ("memory://", f"sqlite:///{tmp_path}/s.db"):
        assert open_shared_buckets(url, "w") is None
