"""What shared buckets promise (`recsys.ports.SharedBuckets`), on a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from recsys.errors import StoreUnavailable
from recsys.ports import BucketDraw, Drawn, SharedBuckets
from recsys.storage.redis_buckets import RedisBuckets
from recsys.storage.redis_server import PrivateRedis
from serving.rate_leases import RateLeases
from serving.rate_limits import CREDIT_SHARE, Bucket

NAMESPACES = count()
Open = Callable[[str], RedisBuckets]


@pytest.fixture
def opened(redis_server: PrivateRedis) -> Iterator[Open]:
    """Opens the same buckets for a worker of that name."""
    url = f"{redis_server.url}?namespace=buckets{next(NAMESPACES)}"
    all_opened: list[RedisBuckets] = []

    def open_for(worker: str) -> RedisBuckets:
        all_opened.append(RedisBuckets(url, worker))
        return all_opened[-1]

    yield open_for
    for each in all_opened:
        each.close()


def draw(buckets: SharedBuckets, *, want: int, held: int = 0, rate: float = 0.001, burst: int = 10) -> Drawn:
    return buckets.draw([BucketDraw("shop", rate, burst, held, want)])[0]


def test_a_bucket_begins_full_and_is_the_same_for_all(opened: Open) -> None:
    first, second = opened("a"), opened("b")
    assert draw(first, want=4).granted == 4
    answer = draw(second, want=100)
    assert (answer.granted, int(answer.left)) == (6, 0)
    assert draw(first, want=5).granted == 0


def test_what_is_handed_back_can_be_drawn_by_others(opened: Open) -> None:
    first, second = opened("a"), opened("b")
    assert draw(first, want=10).granted == 10
    assert draw(first, want=0, held=7).granted == 0
    assert draw(second, want=10).granted == 7


def test_a_debt_is_paid_before_anything_is_granted(opened: Open) -> None:
    first = opened("a")
    assert draw(first, want=10).granted == 10
    answer = draw(first, want=1, held=-5)
    assert answer.granted == 0
    assert -5.1 < answer.left < -4.9


def test_the_rate_fills_it_by_the_servers_clock_up_to_what_is_not_held(opened: Open) -> None:
    first, second = opened("a"), opened("b")
    assert draw(first, want=6, rate=1000).granted == 6
    time.sleep(0.05)
    assert draw(second, want=10, rate=1000).granted == 4


def test_several_buckets_are_one_step_in_order(opened: Open) -> None:
    asks = [BucketDraw(name, 0.5, burst, 0, 3) for name, burst in (("x", 2), ("y", 5))]
    assert [answer.granted for answer in opened("a").draw(asks)] == [2, 3]


def test_a_redis_that_is_gone_is_said_in_our_words() -> None:
    with pytest.raises(StoreUnavailable):
        draw(RedisBuckets("redis://127.0.0.1:1/0", "a"), want=1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [("a", "b"), ("a",)])
def test_two_flooded_workers_keep_one_limit(opened: Open, workers: tuple[str, ...]) -> None:
    rate, burst, seconds = 200.0, 50, 3.0
    began = time.monotonic()
    passed = [flooded(opened(worker), rate, burst, n_workers=2) for worker in workers]
    time.sleep(seconds)
    totals = [stop() for stop in passed]
    t = time.monotonic() - began
    assert sum(totals) <= rate * t + burst * (1 + CREDIT_SHARE) + len(workers)
    assert sum(totals) >= 0.7 * rate * seconds, "and the limit can be used up, by one worker too"


@pytest.mark.slow
def test_a_worker_goes_on_with_its_share_while_redis_is_gone_and_shares_again_after(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path) as server:
        bucket = Bucket("shop", 100.0, 10, 2, time.monotonic())
        leases = RateLeases([bucket], RedisBuckets(server.url, "a"))
        leases.start()
        server.stop()
        assert passed_within(bucket, seconds=1.5) >= 20, "until it notices, credit; then 50 a second"
        alone = passed_within(bucket, seconds=1.0)
        assert 30 <= alone <= 50 * 1.2 + 5
        server.start()
        deadline = time.monotonic() + 10
        while passed_within(bucket, seconds=0.5) < 40:  # 25 alone, 50 together
            assert time.monotonic() < deadline
        leases.stop()


def passed_within(bucket: Bucket, seconds: float) -> int:
    ends_at, passed = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        passed += bucket.take(time.monotonic()) == 0.0
        time.sleep(0.002)
    return passed


def flooded(shared: SharedBuckets, rate: float, burst: int, n_workers: int) -> Callable[[], int]:
    """A worker that asks all the time; what is returned ends it and says how many passed."""
    bucket = Bucket("shop", rate, burst, n_workers, time.monotonic())
    leases = RateLeases([bucket], shared)
    leases.start()
    ended, passed = threading.Event(), [0]

    def flood() -> None:
        while not ended.wait(0.001):
            passed[0] += sum(bucket.take(time.monotonic()) == 0.0 for _ in range(3))

    thread = threading.Thread(target=flood)
    thread.start()

    def stop() -> int:
        ended.set()
        thread.join()
        leases.stop()
        return passed[0]

    return stop
