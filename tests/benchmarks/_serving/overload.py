"""Far more requests than the service can answer, from a client that does not wait: what it still answers, what a
refusal costs, what memory does, and whether all is as before afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

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


def overload_figures(bench: Bench) -> Iterator[Figure]:
    """Twice and five times the peak, then the recovery."""
    server, null = bench.server(OURS), bench.server(NULL)
    requests = requests_of(bench.world.asked_users(bench.effort.users))
    run(closed_loop(server.port, requests, concurrency=bench.effort.moderate, count=len(requests)))
    null_cpu_s = _peak(bench, null, requests).cpu_s
    before = _peak(bench, server, requests)
    rss_before = server.rss_mib()
    yield Figure("overload: peak, requests/s", before.rate, "", f"{1e6 * before.cpu_s:.0f} CPU-µs each")
    largest = rss_before
    for factor, bar in GOODPUT_BARS.items():
        say(f"overload: {factor} x {before.rate:.0f} requests/s for {bench.effort.overload_seconds:.0f} s")
        overload = _overload(bench, server, requests, factor * before.rate)
        largest = max(largest, overload.rss_mib)
        yield from _figures_of(f"overload {factor}x", overload, before, null_cpu_s, bar, factor)
        time.sleep(PAUSE_S)
    note = f"{rss_before:.0f} → {largest:.0f} MiB resident"
    yield Figure("overload: largest memory / before", largest / rss_before, MEMORY_BAR, note)
    yield from _recovery(bench, server, requests, before)


def _peak(bench: Bench, server: Server, requests: list[bytes]) -> Peak:
    cpu = server.cpu_s()
    load = run(closed_loop(server.port, requests, concurrency=bench.effort.saturating, seconds=bench.effort.seconds))
    return Peak(max(load.rate, 1.0), (server.cpu_s() - cpu) / max(load.replies, 1))


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


def _figures_of(
    label: str, overload: Overload, peak: Peak, null_cpu_s: float, bar: str, factor: int
) -> Iterator[Figure]:
    load = overload.load
    shed = sum(load.statuses[status] for status in SHED_STATUSES)
    other = load.replies - load.statuses[200] - shed
    lost = load.broken + load.unanswered
    note = f"200: {load.statuses[200]}, of them undegraded {load.undegraded}; shed {shed}, other {other}, lost {lost}"
    yield Figure(f"{label}: undegraded goodput / peak", load.good_rate / peak.rate, bar, note)
    yield Figure(f"{label}: all answers 200 / peak", load.rate / peak.rate)
    yield Figure(f"{label}: p99 of the answers 200, ms", load.quantile_ms(0.99))
    # What is left of the CPU when every 200 is charged what it costs at the peak.
    shed_cpu = (overload.cpu_s - load.statuses[200] * peak.cpu_s) / shed / null_cpu_s if shed else None
    note = f"null {1e6 * null_cpu_s:.0f} CPU-µs" if shed else "nothing was shed"
    yield Figure(f"{label}: CPU of a shed reply / null endpoint's", shed_cpu, SHED_BAR, note)
    note = f"wanted {factor * peak.rate:.0f}/s; lag p99 {load.lag_p99_ms:.2f} ms; Redis runs on that core too"
    yield Figure(f"{label}: the client's share of its core", load.client_share, CLIENT_BAR, note)
    note = f"{load.n_sent} of {load.n_due}; the others found no free connection for a second"
    yield Figure(f"{label}: share sent of what was to be sent", load.n_sent / max(load.n_due, 1), SENT_BAR, note)


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
