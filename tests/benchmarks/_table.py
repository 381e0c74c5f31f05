"""Figures beside their bars, and ratios from interleaved rounds."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

OPERATORS = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Figure:
    """One line of a benchmark's table.

    Attributes:
        value: None where it was not measured; `note` then says why.
        bar: as ">= 3.5"; "" where the figure is for information.
    """

    name: str
    value: float | None
    bar: str = ""
    note: str = ""

    @property
    def falls_short(self) -> bool:
        if self.value is None or not self.bar:
            return False
        sign, limit = self.bar.split()
        return not OPERATORS[sign](self.value, float(limit))


def show(figures: Sequence[Figure]) -> int:
    """Print the table; 1 when a figure falls short of its bar."""
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.5g}"
        verdict = "" if not figure.bar or figure.value is None else "SHORT" if figure.falls_short else "ok"
        print(f"{figure.name:<{width}}  {value:>12}  {figure.bar:<9} {verdict:<6} {figure.note}", flush=True)
    short = [figure.name for figure in figures if figure.falls_short]
    print(f"{len(short)} of {len(figures)} fall short: {'; '.join(short)}" if short else "no figure falls short")
    return 1 if short else 0


def interleaved(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = 5) -> tuple[float, str]:
    """How many times as fast ours is: the median over rounds of peer's seconds / ours, and a note with the spread."""
    seconds = timed_rounds(ours, peer, rounds=rounds)
    ratios = [theirs / mine for mine, theirs in seconds]
    best = min(theirs for _, theirs in seconds) / min(mine for mine, _ in seconds)
    return statistics.median(ratios), f"rounds {min(ratios):.2f} to {max(ratios):.2f}, ratio of the minima {best:.2f}"


def timed_rounds(
    ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = 5
) -> list[tuple[float, float]]:
    """Seconds of (ours, peer), round by round.

    A round runs both, in alternating order, so that a slow minute of the machine slows both.
    """
    ours(), peer()  # warm up
    seconds: list[tuple[float, float]] = []
    for number in range(rounds):
        pair = (ours, peer) if number % 2 else (peer, ours)
        took = {each: _seconds(each) for each in pair}
        seconds.append((took[ours], took[peer]))
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
