"""How long a request may take, and which stages it can still afford.

A stage is expected to take what it took lately (an exponentially weighted mean). One that would overrun the budget is
left out, and named in `degraded`. What is left out is not measured, so each time its expectation shrinks a little:
after a slow minute it is tried again by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from recsys.trace import StageTrace

NEWEST_SHARE = 0.1
FORGOTTEN_SHARE = 0.05


class StageCosts:
    """What each stage costs in this process, milliseconds by name. One thread at a time, or roughly right."""

    def __init__(self) -> None:
        self._mean_ms: dict[str, float] = {}

    def expected_ms(self, stage: str) -> float:
        """0 for a stage that was never seen: it is tried."""
        return self._mean_ms.get(stage, 0.0)

    def note(self, stages: Iterable[StageTrace]) -> None:
        """Learn from a finished request; stages that fell back did not do their work, and teach nothing."""
        for stage in stages:
            if not stage.fallback:
                before = self._mean_ms.get(stage.name, stage.duration_ms)
                self._mean_ms[stage.name] = before + NEWEST_SHARE * (stage.duration_ms - before)

    def note_skipped(self, stage: str) -> None:
        self._mean_ms[stage] = self.expected_ms(stage) * (1 - FORGOTTEN_SHARE)


class Budget:
    """The time of one request, from the moment it came in."""

    __slots__ = ("_clock", "_costs", "_deadline")

    def __init__(
        self, budget_ms: float, costs: StageCosts, *, spent_ms: float = 0.0, clock: Callable[[], float] | None = None
    ) -> None:
        """
        Args:
            budget_ms: of the whole request.
            spent_ms: what is gone of it already (waiting, reading).
            clock: seconds; `time.perf_counter` by default.
        """
        self._clock = clock or time.perf_counter
        self._costs = costs
        self._deadline = self._clock() + (budget_ms - spent_ms) / 1e3

    @property
    def remaining_ms(self) -> float:
        """Negative once it is used up."""
        return (self._deadline - self._clock()) * 1e3

    def affords(self, stage: str) -> bool:
        """Whether a stage is expected to end in time; one that is not is counted as skipped."""
        if self._costs.expected_ms(stage) <= self.remaining_ms:
            return True
        self._costs.note_skipped(stage)
        return False


UNLIMITED = Budget(float("inf"), StageCosts())
