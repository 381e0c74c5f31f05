"""Far more requests than the service can answer, from a client that does not wait: what it still answers, what a
refusal costs, what memory does, and whether all is as before afterwards.

A machine is now faster, now slower: each overload is compared with the peaks right before and right after it. What an
answer and a refusal cost under load follows from the two overloads together: CPU = answers x a + refusals x b.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks._serving.bench import NULL, OURS, Bench, say
from tests.benchmarks._serving.client import Load, run
from tests.benchmarks._serving.loops import closed_loop, open_loop
from tests.benchmarks._serving.processes import Server
from tests.benchmarks._serving.world import requests_of
from tests.benchmarks._table import Figure

GOODPUT_BARS = {2: ">= 0.9", 5: ">= 0.65"}
SHED_BAR, MEMORY_BAR, RECOVERY_BAR, PEAK_BAR = "<= 2", "<= 1.1", ">= 0.999", ">= 0.9"
CLIENT_BAR, SENT_BAR = "<= 0.9", ">= 0.95"
SHED_STATUSES = (429, 503)
CONNECTIONS_A_TIME = 2
PAUSE_S = 1.0
PEAK_LOOPS = 3
LARGEST_CONDITION = 100.0
RECOVERY_SHARE = 0.6


@dataclass(frozen=True)
class Peak:
    """What the server can do: requests a second with its core full, and CPU seconds of one."""

    rate: float
    cpu_s: float


@dataclass(frozen=True)
class Overload:
    """One overload: the load, CPU seconds of the server, and its largest memory."""

    load: Load
    cpu_s: float
    rss_mib: float

    @property
    def n_shed(self) -> int:
        return sum(self.load.statuses[status] for status in SHED_STATUSES)


def overload_figures(bench: Bench) -> Iterator[Figure]:
    """Twice and five times the peak, then the recovery."""
    server, null = bench.server(OURS), bench.server(NULL)
    requests = requests_of(bench.world.asked_users(bench.effort.users))
    run(closed_loop(server.port, requests, concurrency=bench.effort.moderate, count=len(requests)))
    null_cpu_s = _peak(bench, null, requests).cpu_s
    peaks = [_peak(bench, server, requests)]
    rss_before = server.rss_mib()
    yield Figure("overload: peak, requests/s", peaks[0].rate, "", f"{1e6 * peaks[0].cpu_s:.0f} CPU-µs each")
    overloads = []
    for factor, bar in GOODPUT_BARS.items():
        say(f"overload: {factor} x {peaks[0].rate:.0f} requests/s for {bench.effort.overload_seconds:.0f} s")
        overloads.append(_overload(bench, server, requests, factor * peaks[0].rate))
        time.sleep(PAUSE_S)
        peaks.append(_peak(bench, server, requests))
        peak = statistics.mean(each.rate for each in peaks[-2:])
        yield from _figures_of(f"overload {factor}x", overloads[-1], peak, bar, factor * peaks[0].rate)
    yield _shed_figure(overloads, null_cpu_s)
    largest = max(rss_before, *(each.rss_mib for each in overloads))
    note = f"{rss_before:.0f} → {largest:.0f} MiB resident"
    yield Figure("overload: largest memory / before", largest / rss_before, MEMORY_BAR, note)
    yield from _recovery(bench, server, requests, peaks[0])


def _peak(bench: Bench, server: Server, requests: list[bytes]) -> Peak:
    """The median of some closed loops."""
    effort, found = bench.effort, []
    for _ in range(PEAK_LOOPS):
        cpu = server.cpu_s()
        load = run(closed_loop(server.port, requests, concurrency=effort.saturating, seconds=effort.seconds))
        found.append(Peak(max(load.rate, 1.0), (server.cpu_s() - cpu) / max(load.replies, 1)))
    return sorted(found, key=lambda peak: peak.rate)[PEAK_LOOPS // 2]


def _overload(bench: Bench, server: Server, requests: list[bytes], rate: float) -> Overload:
    largest = [server.rss_mib()]
    cpu = server.cpu_s()
    load = run(
        open_loop(
            server.port,
            requests,
            rate=rate,
            seconds=bench.effort.overload_seconds,
            connections=CONNECTIONS_A_TIME * bench.effort.connections,
            seed=int(rate),
            each_second=lambda: largest.append(server.rss_mib()),
        )
    )
    return Overload(load, server.cpu_s() - cpu, max(*largest, server.rss_mib()))


def _figures_of(label: str, overload: Overload, peak: float, bar: str, wanted: float) -> Iterator[Figure]:
    load, shed = overload.load, overload.n_shed
    other = load.replies - load.statuses[200] - shed
    lost = load.broken + load.unanswered
    note = f"200: {load.statuses[200]}, of them undegraded {load.undegraded}; shed {shed}, other {other}, lost {lost}"
    yield Figure(f"{label}: undegraded goodput / peak", load.good_rate / peak, bar, note)
    yield Figure(f"{label}: all answers 200 / peak", load.rate / peak)
    yield Figure(f"{label}: p99 of the answers 200, ms", load.quantile_ms(0.99))
    note = f"wanted {wanted:.0f}/s; lag p99 {load.lag_p99_ms:.2f} ms; Redis runs on that core too"
    yield Figure(f"{label}: the client's share of its core", load.client_share, CLIENT_BAR, note)
    note = f"{load.n_sent} of {load.n_due}; the others found no free connection for a second"
    yield Figure(f"{label}: share sent of what was to be sent", load.n_sent / max(load.n_due, 1), SENT_BAR, note)


def _shed_figure(overloads: Sequence[Overload], null_cpu_s: float) -> Figure:
    """Of two overloads with other shares of refusals, what one answer and one refusal cost."""
    label = "overload: CPU of a shed reply / null endpoint's"
    counts = np.array([[each.load.statuses[200], each.n_shed] for each in overloads], dtype=np.float64)
    if np.linalg.cond(counts) > LARGEST_CONDITION:
        return Figure(label, None, SHED_BAR, "the two overloads had too like shares of refusals to tell")
    answer_s, shed_s = np.linalg.solve(counts, np.array([each.cpu_s for each in overloads]))
    note = f"{1e6 * shed_s:.0f} CPU-µs, an answer {1e6 * answer_s:.0f}, null {1e6 * null_cpu_s:.0f}"
    return Figure(label, float(shed_s / null_cpu_s), SHED_BAR, note)


def _recovery(bench: Bench, server: Server, requests: list[bytes], before: Peak) -> Iterator[Figure]:
    effort = bench.effort
    load = run(
        open_loop(
            server.port,
            requests,
            rate=RECOVERY_SHARE * before.rate,
            seconds=effort.open_seconds,
            connections=effort.connections,
            seed=1,
        )
    )
    asked = load.replies + load.broken + load.unsent + load.unanswered
    share = load.undegraded / max(asked, 1)
    yield Figure("overload: after it, share 200 and undegraded at 60 %", share, RECOVERY_BAR)
    yield Figure("overload: after it, peak / peak before", _peak(bench, server, requests).rate / before.rate, PEAK_BAR)
