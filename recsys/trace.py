"""What each stage of a request did."""

from __future__ import annotations

import time
from collections.abc import Sized
from types import TracebackType
from typing import Any

import msgspec


class StageTrace(msgspec.Struct, frozen=True, gc=False):
    """One stage: its name, its time, what went in and out, and the fallback it took ("" = none)."""

    name: str
    duration_ms: float
    n_in: int
    n_out: int
    fallback: str = ""


class OpenStage:
    """A stage while it runs: it sets what came out, and names its fallback when it takes one. Left by an exception, it
    leaves no trace."""

    __slots__ = ("_n_in", "_name", "_stages", "_started", "fallback", "n_out")

    def __init__(self, stages: list[StageTrace], name: str, n_in: int) -> None:
        self._stages, self._name, self._n_in = stages, name, n_in
        self.n_out = 0
        self.fallback = ""
        self._started = time.perf_counter()

    def out(self, result: Sized) -> None:
        self.n_out = len(result)

    def __enter__(self) -> OpenStage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is None:
            duration_ms = (time.perf_counter() - self._started) * 1e3
            self._stages.append(StageTrace(self._name, duration_ms, self._n_in, self.n_out, self.fallback))


class Trace:
    """Collects the stages of one request, in order.

    Attributes:
        stages: those that are done.
        dropped: candidates that each rule of the gate dropped, by its name; a rule that dropped none is left out.
        notes: what rules, diversity and exploration did to which item row.
    """

    __slots__ = ("dropped", "notes", "stages")

    def __init__(self) -> None:
        self.stages: list[StageTrace] = []
        self.dropped: dict[str, int] = {}
        self.notes: list[tuple[Any, int]] = []

    def stage(self, name: str, n_in: int) -> OpenStage:
        return OpenStage(self.stages, name, n_in)

    def note_dropped(self, dropped: dict[str, int]) -> None:
        """Add what a pass through the gate dropped."""
        for name, n in dropped.items():
            self.dropped[name] = self.dropped.get(name, 0) + n

    def forget(self, n_stages: int) -> None:
        """What the last stages did, and what the gate dropped so far: they are done again."""
        del self.stages[-n_stages:]
        self.dropped.clear()

    @property
    def degraded(self) -> tuple[str, ...]:
        """Names of the stages that fell back."""
        return tuple(stage.name for stage in self.stages if stage.fallback)
