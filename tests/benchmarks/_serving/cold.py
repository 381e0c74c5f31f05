"""From the start of the process to `/readyz` 200, files in the page cache."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from tests.benchmarks._serving.bench import OURS, START_S, Bench, say
from tests.benchmarks._table import Figure

READY_BAR = "<= 3"


def cold_figures(bench: Bench) -> Iterator[Figure]:
    """The median of several starts, after one that fills the page cache."""
    bench.stop_all()
    if OURS not in bench.launched:
        _start(bench)
    seconds = []
    for number in range(bench.effort.cold_starts):
        seconds.append(_start(bench))
        say(f"cold start {number + 1} of {bench.effort.cold_starts}: {seconds[-1]:.2f} s")
    note = f"{bench.world.size.n_items:,} items; {min(seconds):.2f} to {max(seconds):.2f}"
    yield Figure("cold start to ready, s", statistics.median(seconds), READY_BAR, note)


def _start(bench: Bench) -> float:
    with bench.launch(OURS) as server:
        return server.wait_ready(START_S)
