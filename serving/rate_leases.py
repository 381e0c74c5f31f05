"""Rate limits that hold over all workers: each draws tokens from shared buckets ahead, in the background.

In any t seconds a key gets at most rate * t + burst * 1.25 + workers tokens: what is drawn is exact; on top of it a
worker may spend a credit of `rate_limits.CREDIT_SHARE` of what was left, shared among the workers, so that the first
request after a pause does not wait for a draw. What is spent on credit is paid at the next draw. While the shared
buckets do not answer, each worker lets its share of the rate pass. Without a request nothing is asked.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread

from recsys.errors import StoreUnavailable
from recsys.ports import BucketDraw, SharedBuckets
from serving.rate_limits import Bucket
from serving.telemetry import log

DRAW_EVERY_S = 0.1
# A draw before the time, when tokens run out; and the pause after the shared buckets did not answer.
SOONEST_S = 0.01
RETRY_S = 1.0


class RateLeases:
    """Keeps the buckets of one worker filled between `start` and `stop`."""

    def __init__(
        self, buckets: Sequence[Bucket], shared: SharedBuckets, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._buckets = buckets
        self._shared = shared
        self._clock = clock
        self._drawn_at = clock()
        self._answers = True
        self._stopped = False
        self._hurry = Event()
        self._thread = Thread(target=self._run, name="rate-leases", daemon=True)
        for bucket in buckets:
            bucket.when_low(self._hurry.set)

    def start(self) -> None:
        """Draw once, then go on in the background."""
        self.draw()
        self._thread.start()

    def stop(self) -> None:
        """Waits for the draw in work; what is held comes back to the shared buckets by itself."""
        self._stopped = True
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._shared.close()

    def draw(self) -> bool:
        """One draw for all buckets that are in use; whether the shared buckets answered."""
        now = self._clock()
        since_s = min(DRAW_EVERY_S, max(SOONEST_S, now - self._drawn_at))
        self._drawn_at = now
        in_use = [bucket for bucket in self._buckets if not bucket.is_idle]
        draws = [_draw_of(bucket, since_s) for bucket in in_use]
        try:
            drawn = self._shared.draw(draws) if draws else []
        except StoreUnavailable as error:
            self._note(False, str(error))
            for bucket in self._buckets:
                bucket.on_its_own(self._clock())
            return False
        for bucket, ask, got in zip(in_use, draws, drawn, strict=True):
            bucket.drawn(got.granted - ask.held, got.left, now)
        self._note(True)
        return True

    def _run(self) -> None:
        pause_s = DRAW_EVERY_S
        while not self._stopped:
            self._hurry.wait(pause_s)
            self._hurry.clear()
            try:
                answered = self.draw()
            except Exception:  # the thread must outlive any surprise
                log(logging.ERROR, "drawing rate limits failed and will be tried again", exc_info=True)
                answered = False
            if not self._stopped:
                time.sleep(SOONEST_S if answered else RETRY_S)
            pause_s = DRAW_EVERY_S - SOONEST_S

    def _note(self, answers: bool, why: str = "") -> None:
        if answers != self._answers:
            self._answers = answers
            says = "rate limits are shared again" if answers else "rate limits are this worker's own for now"
            log(logging.INFO if answers else logging.WARNING, says, why=why)


def _draw_of(bucket: Bucket, since_s: float) -> BucketDraw:
    """Twice what was asked for since the last draw, in the time until the next; what is not used goes back then."""
    held, n_asked = bucket.state()
    want = max(bucket.part, math.ceil(2 * n_asked * DRAW_EVERY_S / since_s)) if n_asked else 0
    return BucketDraw(bucket.name, bucket.rate_per_s, bucket.burst, held, min(bucket.burst, want))
