"""How long a request may take, and which stages it can still afford.

A stage is expected to take what it took lately: the median of its last few times, so that a pause of the machine in
one of them leaves nothing out. One that would overrun the budget is left out, and named in `degraded`. What is left out
is not measured, so each time its expectation shrinks a little: after a slow minute it is tried again by itself, and
that one try decides.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

from recsys.trace import StageTrace

N_LATEST = 5
FORGOTTEN_SHARE = 0.05


class StageCosts:
    """What each stage costs in this process, milliseconds by name. One thread at a time, or roughly right."""

    def __init__(self) -> None:
        self._latest_ms: dict[str, deque[float]] = {}
        self._expected_ms: dict[str, float] = {}
        self._skipped: set[str] = set()

    def expected_ms(self, stage: str) -> float:
        """0 for a stage that was never seen: it is tried."""
        return self._expected_ms.get(stage, 0.0)

    def note(self, stages: Iterable[StageTrace], tried: Collection[str]) -> None:
        """Learn from a finished request. Stages that fell back did not do their work, and teach nothing; nor do those
        that were not `tried`: a query vector out of a cache says nothing of the tower's cost."""
        for stage in stages:
            if stage.name in tried and not stage.fallback:
                self._note(stage.name, stage.duration_ms)

    def _note(self, stage: str, duration_ms: float) -> None:
        latest = self._latest_ms.get(stage)
        if latest is None or stage in self._skipped:
            # The first try after a pause counts alone: what is still slow is left out for as long again.
            latest = self._latest_ms[stage] = deque(maxlen=N_LATEST)
            self._skipped.discard(stage)
        latest.append(duration_ms)
        self._expected_ms[stage] = sorted(latest)[(len(latest) - 1) // 2]

    def note_skipped(self, stage: str) -> None:
        self._expected_ms[stage] = self.expected_ms(stage) * (1 - FORGOTTEN_SHARE)
        self._skipped.add(stage)


class Budget:
    """The time of one request, from the moment it came in.

    Attributes:
        tried: the stages that it could afford.
    """

    __slots__ = ("_clock", "_costs", "_deadline", "tried")

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
        self.tried: set[str] = set()

    @property
    def remaining_ms(self) -> float:
        """Negative once it is used up."""
        return (self._deadline - self._clock()) * 1e3

    def affords(self, stage: str) -> bool:
        """Whether a stage is expected to end in time; one that is not is counted as skipped."""
        if self._costs.expected_ms(stage) <= self.remaining_ms:
            self.tried.add(stage)
            return True
        self._costs.note_skipped(stage)
        return False


UNLIMITED = Budget(float("inf"), StageCosts())
