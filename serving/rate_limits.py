"""How often a key may call: a token bucket each, which a request takes one token from.

A bucket fills itself (one worker, or a share of the rate for each), or `serving.rate_leases` fills it from a bucket
that all workers share. Taking a token never waits and asks nobody.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock

from starlette.responses import Response

from recsys.serving_config import ApiKeyConfig
from serving.errors import problem

# Tokens that a worker may spend before it has drawn them, as a part of what was left in the shared bucket.
CREDIT_SHARE = 0.25
MAX_RETRY_S = 60


class Bucket:
    """The tokens of one key in this worker. Safe from two threads: requests take, the background draws.

    Attributes:
        rate_per_s, burst: of the whole service.
    """

    def __init__(self, name: str, rate_per_s: float, burst: int, n_workers: int, now: float) -> None:
        """`now` is of a monotonic clock, in seconds, as in every method."""
        self.name = name
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._n_workers = n_workers
        self._own_rate = rate_per_s / n_workers
        self._own_burst = max(1.0, burst / n_workers)
        self._fills_itself = True
        self._tokens = self._own_burst
        self._at = now
        self._left = self._credit = 0.0
        self._n_asked = 0
        self._when_low: Callable[[], None] | None = None
        self._lock = Lock()

    def take(self, now: float) -> float:
        """Take a token: 0.0, or the seconds after which there should be one."""
        with self._lock:
            self._n_asked += 1
            if self._fills_itself:
                self._tokens = min(self._own_burst, self._tokens + (now - self._at) * self._own_rate)
                self._at = now
            elif self._tokens < self._n_asked:
                self._ask_for_more(now)
            missing = 1 - self._tokens - self._credit
            if missing <= 0:
                self._tokens -= 1
                return 0.0
            return missing / (self._own_rate if self._fills_itself else self.rate_per_s)

    def _ask_for_more(self, now: float) -> None:
        """Tokens run out: have more drawn, where there should be some by now, and until then live on credit."""
        left = min(self.burst, self._left + (now - self._at) * self.rate_per_s)
        if left >= 1:
            self._credit = max(1.0, left * CREDIT_SHARE / self._n_workers)
            if self._when_low is not None:
                self._when_low()

    def when_low(self, call: Callable[[], None]) -> None:
        """`call` is called while another draw would bring tokens that will soon be missed; it must not wait."""
        self._when_low = call

    @property
    def is_idle(self) -> bool:
        """Whether a draw would change nothing: it holds nothing, and nobody asked."""
        return not self._fills_itself and self._tokens == 0 and self._n_asked == 0

    def state(self) -> tuple[int, int]:
        """(whole tokens here, negative where it owes some; times asked since the last `state`)."""
        with self._lock:
            n_asked, self._n_asked = self._n_asked, 0
            return math.floor(self._tokens), n_asked

    @property
    def part(self) -> int:
        """What a worker in use holds ahead at least, so that a burst finds something."""
        return math.ceil(self.burst * CREDIT_SHARE / self._n_workers)

    def drawn(self, more: int, left: float, now: float) -> None:
        """Tokens that came (negative: went) by a draw, and what the shared bucket has left."""
        with self._lock:
            if self._fills_itself:
                self._fills_itself, self._tokens = False, float(math.floor(self._tokens))
            self._tokens += more
            self._left, self._at, self._credit = left, now, 0.0

    def on_its_own(self, now: float) -> None:
        """From now on it fills itself, with its share of the rate: the shared bucket does not answer."""
        with self._lock:
            if not self._fills_itself:
                self._fills_itself, self._at, self._credit = True, now, 0.0
                self._tokens = min(self._own_burst, max(0.0, self._tokens))


class RateLimits:
    """The buckets of all keys that have a rate."""

    def __init__(
        self, keys: Sequence[ApiKeyConfig], n_workers: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.buckets: Mapping[str, Bucket] = {
            key.name: Bucket(
                key.name, key.rate_per_s, key.burst or max(1, math.ceil(key.rate_per_s)), n_workers, clock()
            )
            for key in keys
            if key.rate_per_s > 0
        }
        self._refusals: dict[tuple[int, int], Response] = {}

    def refusal(self, bucket: Bucket | None) -> Response | None:
        """Takes a token; None, or the 429 reply (made once and sent to many) where there is none."""
        if bucket is None:
            return None
        wait_s = bucket.take(self._clock())
        if wait_s == 0.0:
            return None
        retry_s = min(MAX_RETRY_S, max(1, math.ceil(wait_s)))
        found = self._refusals.get((bucket.burst, retry_s))
        if found is None:
            found = self._refusals[bucket.burst, retry_s] = _too_many(bucket, retry_s)
        return found


def _too_many(bucket: Bucket, retry_s: int) -> Response:
    limits = {"RateLimit-Limit": str(bucket.burst), "RateLimit-Remaining": "0", "RateLimit-Reset": str(retry_s)}
    detail = "this key calls more often than its rate_per_s allows; try again after the seconds in Retry-After"
    return problem(429, detail, kind="rate-limited", headers={"Retry-After": str(retry_s), **limits})
