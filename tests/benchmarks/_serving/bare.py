"""The bare parts of a request beside what a whole one costs, and 200 items' features beside their HGETALL pipeline."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from tests.benchmarks._serving.bench import OURS, Bench, ask, say
from tests.benchmarks._serving.processes import bare_environment
from tests.benchmarks._serving.world import LIMIT, N_CANDIDATES, ROOT, user_id
from tests.benchmarks._table import Figure

TOWER, SEARCH = "tower", "index search"
FEATURES_BAR = "<= 0.12"


class BareParts:
    """A process on the server's core that measures parts when it is asked; a context manager."""

    def __init__(self, bench: Bench) -> None:
        reply = bench.folder / "reply.json"
        reply.write_text(json.dumps(ask(bench.server(OURS), {"user_id": user_id(0), "limit": LIMIT})))
        workspace, histories = bench.world.workspace(query_cache=True), bench.world.folder / "histories.npy"
        arguments = map(str, (workspace, bench.redis.url, reply, histories, bench.effort.calls))
        self._log = bench.folder / "bare.log"
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks._serving.bare_work", *arguments],
                cwd=ROOT,
                env=bare_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {bench.cores.server}),
            )

    def measure(self, what: str) -> dict[str, float]:
        """CPU microseconds a call, by part; `what` is "parts" or "features"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bare parts cannot be measured: {self._log.read_text(errors='replace')[-2000:]}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def __enter__(self) -> BareParts:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def bare_sum(parts: dict[str, float], *, with_tower: bool) -> float:
    return sum(us for name, us in parts.items() if with_tower or name != TOWER)


def part_figures(rounds: Sequence[dict[str, float]]) -> Iterator[Figure]:
    """Each part's cost, for information."""
    for name in rounds[0]:
        each = [parts[name] for parts in rounds]
        yield Figure(f"bare part: {name}, CPU-µs", statistics.median(each), "", f"min {min(each):.1f}")


def feature_figures(bench: Bench) -> Iterator[Figure]:
    """200 items' features, ours against the HGETALL pipeline, in one process."""
    say("features: in-process columns against the HGETALL pipeline")
    bare = bench.keep(BareParts)
    rounds = [bare.measure("features") for _ in range(bench.effort.rounds)]
    for name, label in (("ours", "in-process columns"), ("hgetall", "pipeline of HGETALL")):
        each = [measured[name] for measured in rounds]
        note = f"min {min(each):.0f}"
        yield Figure(f"features of {N_CANDIDATES} items, {label}, CPU-µs", statistics.median(each), "", note)
    ratios = [measured["ours"] / measured["hgetall"] for measured in rounds]
    note = f"rounds {min(ratios):.4f} to {max(ratios):.4f}; ours includes the ranking features' arithmetic"
    yield Figure("features: ours / HGETALL pipeline", statistics.median(ratios), FEATURES_BAR, note)
