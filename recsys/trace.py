"""What each stage of a request did."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One stage: its name, its time, what went in and out, and the fallback it took ("" = none)."""

    name: str
    duration_ms: float
    n_in: int
    n_out: int
    fallback: str = ""


@dataclass(slots=True)
class OpenStage:
    """A stage while it runs: it sets what came out, and names its fallback when it takes one."""

    n_out: int = 0
    fallback: str = ""

    def out(self, result: Sized) -> None:
        self.n_out = len(result)


@dataclass(slots=True)
class Trace:
    """Collects the stages of one request, in order."""

    stages: list[StageTrace] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str, n_in: int) -> Iterator[OpenStage]:
        started = time.perf_counter()
        stage = OpenStage()
        yield stage
        duration_ms = (time.perf_counter() - started) * 1e3
        self.stages.append(StageTrace(name, duration_ms, n_in, stage.n_out, stage.fallback))

    @property
    def degraded(self) -> tuple[str, ...]:
        """Names of the stages that fell back."""
        return tuple(stage.name for stage in self.stages if stage.fallback)
