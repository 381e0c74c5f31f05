"""When to ask again: spread at random, so that the processes of a fleet do not ask, or pull, in step."""

from __future__ import annotations

import time
from collections.abc import Callable

Draw = Callable[[], float]
"""A random number from 0 up to 1."""


def spread(seconds: float, draw: Draw) -> float:
    """That time, give or take a quarter."""
    return seconds * (0.75 + 0.5 * draw())


class Patience:
    """How long something that does not answer is left alone: the wait doubles with each failure, up to a limit."""

    def __init__(self, first_s: float, limit_s: float, draw: Draw, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives the seconds since some moment."""
        self._first_s, self._limit_s, self._draw, self._clock = first_s, max(first_s, limit_s), draw, clock
        self._failures = 0
        self._due_at = 0.0

    @property
    def is_failing(self) -> bool:
        return self._failures > 0

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._due_at

    def failed(self) -> None:
        wait_s = min(self._limit_s, self._first_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        self._due_at = self._clock() + spread(wait_s, self._draw)

    def succeeded(self) -> None:
        self._failures, self._due_at = 0, 0.0
