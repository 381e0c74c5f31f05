"""CPU a request, requests a second and open-loop tails of the service and its peers, in interleaved rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tests.benchmarks._serving.bare import SEARCH, TOWER, BareParts, bare_sum, part_figures
from tests.benchmarks._serving.bench import (
    CACHE_OFF,
    NULL,
    OURS,
    TEXTBOOK,
    TUNED,
    Bench,
    ask,
    require_right,
    say,
)
from tests.benchmarks._serving.client import Load, run
from tests.benchmarks._serving.loops import closed_loop, open_loop
from tests.benchmarks._serving.processes import Server
from tests.benchmarks._serving.world import LIMIT, requests_of, user_id
from tests.benchmarks._table import Figure

SHARE_OF_PEAK = 0.6
WARMING = 200
QUEUED = 400_000
TEXTBOOK_BAR, TUNED_BAR, PARTS_BAR, TAIL_BAR = "<= 0.066667", "<= 0.6", "<= 1.3", "<= 2"
RIGHT_BAR = ">= 0.999"
ROWS = {OURS: "(a) cached", CACHE_OFF: "(b) cache off"}
TAILS_OF_NULL = {OURS: "null at (a)'s rate", CACHE_OFF: "null at (b)'s rate"}


@dataclass(frozen=True)
class Steady:
    """One server in one round, in closed loops: CPU a request, and requests a second with the core full."""

    cpu_us: float
    rate: float
    loads: tuple[Load, Load]


@dataclass(frozen=True)
class Round:
    """One round: closed loops by server; open loops by server, and of the null endpoint at our rates; bare parts."""

    steady: dict[str, Steady]
    tails: dict[str, Load]
    parts: dict[str, float]


def measure_rounds(bench: Bench, names: tuple[str, ...], *, tails: bool) -> list[Round]:
    """`effort.rounds` rounds, each beginning with another server. `names` hold ours and the null endpoint."""
    servers = bench.servers(names)
    users = bench.world.asked_users(bench.effort.users)
    requests = requests_of(users)
    for name, server in servers.items():
        if name != NULL:
            require_right(server, bench.world)
        # Each user once where the query vectors are kept.
        count = len(requests) if name == OURS else min(len(requests), WARMING)
        say(f"warming {name}: {count} requests")
        run(closed_loop(server.port, requests, concurrency=bench.effort.moderate, count=count))
    rounds = []
    bare = bench.keep(BareParts)
    bare.measure("parts")
    for number in range(bench.effort.rounds):
        turned = names[number % len(names) :] + names[: number % len(names)]
        parts = bare.measure("parts")
        steady = {name: _steady(bench, servers[name], requests) for name in turned}
        open_loops = _tails(bench, servers, turned, steady, requests, number) if tails else {}
        told = ", ".join(f"{name} {steady[name].cpu_us:.0f}" for name in names)
        say(f"round {number + 1} of {bench.effort.rounds}, CPU-µs a request: {told}")
        rounds.append(Round(steady, open_loops, parts))
    return rounds


def _steady(bench: Bench, server: Server, requests: Sequence[bytes]) -> Steady:
    effort = bench.effort
    cpu = server.cpu_s()
    moderate = run(closed_loop(server.port, requests, concurrency=effort.moderate, seconds=effort.seconds))
    if not moderate.statuses[200]:
        raise RuntimeError(f"{server.name} answers nothing with 200; its log ends: {server.log_tail()}")
    cpu_us = 1e6 * (server.cpu_s() - cpu) / moderate.replies
    full = run(closed_loop(server.port, requests, concurrency=effort.saturating, seconds=effort.seconds))
    return Steady(cpu_us, max(full.rate, 1.0), (moderate, full))


def _tails(
    bench: Bench,
    servers: dict[str, Server],
    names: tuple[str, ...],
    steady: dict[str, Steady],
    requests: Sequence[bytes],
    seed: int,
) -> dict[str, Load]:
    """Each server at 60 % of its own peak; the null endpoint, right after each of ours, at our rate."""
    loads = {}
    for name in names:
        if name == NULL:
            continue
        rate = SHARE_OF_PEAK * steady[name].rate
        loads[name] = _open(bench, servers[name], requests, rate, seed)
        if name in TAILS_OF_NULL:
            loads[TAILS_OF_NULL[name]] = _open(bench, servers[NULL], requests, rate, seed)
    return loads


def _open(bench: Bench, server: Server, requests: Sequence[bytes], rate: float, seed: int) -> Load:
    effort = bench.effort
    load = open_loop(
        server.port, requests, rate=rate, seconds=effort.open_seconds, connections=effort.connections, seed=seed
    )
    return run(load)


def latency_figures(bench: Bench) -> Iterator[Figure]:
    """Rows (a) and (b) whole: costs, tails, ratios to the peers and to the bare parts."""
    names = (OURS, TEXTBOOK, TUNED, CACHE_OFF, NULL)
    rounds = measure_rounds(bench, names, tails=True)
    yield _ranked(bench)
    for name in names:
        yield from _costs(name, rounds)
    for name in (*names[:-1], *TAILS_OF_NULL.values()):
        yield from _tail_costs(name, rounds)
    yield _ratio(f"{ROWS[OURS]}: CPU against the textbook stack", rounds, TEXTBOOK, TEXTBOOK_BAR)
    yield _ratio(f"{ROWS[OURS]}: CPU against the tuned stack", rounds, TUNED, TUNED_BAR)
    for peer in (TEXTBOOK, TUNED):
        yield _with_a_search(peer, rounds)
    for name, row in ROWS.items():
        yield _tail_figure(f"{row}: (p99 - null's p99) / own p50 at 60 % load", name, rounds)
        yield _ideal_queue(f"{row}: p99 / p50 of an ideal queue at that load", name, rounds)
    yield from parts_figures(rounds)
    yield from _client_figures(rounds)


def parts_only_figures(bench: Bench) -> Iterator[Figure]:
    """The rows against their bare parts, without the peers."""
    rounds = measure_rounds(bench, (OURS, CACHE_OFF, NULL), tails=False)
    for name in (OURS, CACHE_OFF, NULL):
        yield from _costs(name, rounds)
    yield from parts_figures(rounds)


def parts_figures(rounds: Sequence[Round]) -> Iterator[Figure]:
    """Each bare part, and both rows against their sum."""
    yield from part_figures([each.parts for each in rounds])
    tower = statistics.median(each.parts[TOWER] for each in rounds)
    whole = statistics.median(each.steady[CACHE_OFF].cpu_us for each in rounds)
    yield Figure(f"{ROWS[CACHE_OFF]}: tower, CPU-µs", tower, "", "measured alone")
    yield Figure(f"{ROWS[CACHE_OFF]}: all but the tower, CPU-µs", whole - tower)
    for name, row in ROWS.items():
        with_tower = name == CACHE_OFF
        ratios, with_http, done = [], [], []
        for each in rounds:
            bare, http = bare_sum(each.parts, with_tower=with_tower), each.steady[NULL].cpu_us
            done.append(each.steady[name].cpu_us / (bare + http - (0.0 if with_tower else each.parts[SEARCH])))
            ratios.append(each.steady[name].cpu_us / bare)
            with_http.append(each.steady[name].cpu_us / (bare + http))
        note = f"{'six' if with_tower else 'five, without the tower'}; rounds {min(ratios):.2f} to {max(ratios):.2f}"
        yield Figure(f"{row}: CPU against its bare parts", statistics.median(ratios), PARTS_BAR, note)
        note = "the null endpoint's CPU added to the parts"
        yield Figure(f"{row}: the same with HTTP in the sum", statistics.median(with_http), "", note)
        if not with_tower:
            note = "it keeps a vector's neighbours and does not search"
            yield Figure(f"{row}: the same without the index search", statistics.median(done), "", note)


def _ranked(bench: Bench) -> Figure:
    """How many candidates ours ranks, from its own trace."""
    counts = []
    for user in bench.world.asked_users(20):
        trace = ask(bench.server(OURS), {"user_id": user_id(user), "limit": LIMIT, "explain": True}).get("trace", [])
        counts += [stage["n_in"] for stage in trace if stage["name"] == "rank"]
    note = "quotas of the benchmark's recsys.toml; the peers rank 200 and neither log exposures nor diversify"
    return Figure("candidates that ours ranks", statistics.median(counts) if counts else None, "", note)


def _costs(name: str, rounds: Sequence[Round]) -> Iterator[Figure]:
    cpu = [each.steady[name].cpu_us for each in rounds]
    rate = [each.steady[name].rate for each in rounds]
    yield Figure(f"{name}: CPU-µs a request", statistics.median(cpu), "", f"min {min(cpu):.0f}, max {max(cpu):.0f}")
    yield Figure(f"{name}: requests/s on one core", statistics.median(rate), "", f"best {max(rate):.0f}")


def _tail_costs(name: str, rounds: Sequence[Round]) -> Iterator[Figure]:
    for label, quantile in (("p50", 0.5), ("p99", 0.99)):
        each = [measured.tails[name].quantile_ms(quantile) for measured in rounds]
        at = "" if name in TAILS_OF_NULL.values() else " at 60 % load"
        yield Figure(f"{name}: open-loop {label}{at}, ms", statistics.median(each), "", f"min {min(each):.2f}")


def _ratio(label: str, rounds: Sequence[Round], peer: str, bar: str) -> Figure:
    ratios = [each.steady[OURS].cpu_us / each.steady[peer].cpu_us for each in rounds]
    mine, theirs = (min(each.steady[name].cpu_us for each in rounds) for name in (OURS, peer))
    note = f"rounds {min(ratios):.3f} to {max(ratios):.3f}, of the minima {mine / theirs:.3f}"
    return Figure(label, statistics.median(ratios), bar, note)


def _with_a_search(peer: str, rounds: Sequence[Round]) -> Figure:
    """Row (a) keeps the neighbours of a query vector beside it, the peers search each time: had it searched too."""
    ratios = [(each.steady[OURS].cpu_us + each.parts[SEARCH]) / each.steady[peer].cpu_us for each in rounds]
    note = f"(a) keeps a vector's neighbours too; rounds {min(ratios):.3f} to {max(ratios):.3f}"
    return Figure(f"{ROWS[OURS]} and an index search: CPU against {peer}", statistics.median(ratios), "", note)


def _tail_figure(label: str, name: str, rounds: Sequence[Round]) -> Figure:
    ratios = []
    for each in rounds:
        mine, null = each.tails[name], each.tails[TAILS_OF_NULL[name]]
        ratios.append((mine.quantile_ms(0.99) - null.quantile_ms(0.99)) / mine.quantile_ms(0.5))
    note = f"rounds {min(ratios):.2f} to {max(ratios):.2f}; null at the same rate, each right after the other"
    return Figure(label, statistics.median(ratios), TAIL_BAR, note)


def _ideal_queue(label: str, name: str, rounds: Sequence[Round]) -> Figure:
    """What waiting alone makes of it: one server that takes as long for each request as ours takes of its core, and
    nothing else, with requests at Poisson times (Lindley's recursion)."""
    busy = statistics.median(SHARE_OF_PEAK * each.steady[name].rate * each.steady[name].cpu_us / 1e6 for each in rounds)
    gaps = np.random.default_rng(0).exponential(1 / busy, QUEUED)
    # The time in the queue and in service, in units of a service time: w[n + 1] = max(w[n] + 1 - gap, 0).
    walk = np.concatenate([[0.0], np.cumsum(1 - gaps)])
    p50, p99 = np.quantile(walk - np.minimum.accumulate(walk) + 1, [0.5, 0.99])
    return Figure(label, float(p99 / p50), "", f"{busy:.2f} busy, each request alike, no background work, no network")


def _client_figures(rounds: Sequence[Round]) -> Iterator[Figure]:
    """That the client measured the servers and not itself, and that the servers did the work."""
    tails = [(name, load) for each in rounds for name, load in each.tails.items()]
    share = max(load.client_share for _, load in tails)
    yield Figure("client: largest share of its core in an open loop", share, "", "Redis runs on that core too")
    yield Figure("client: worst p99 of its sending lag, ms", max(load.lag_p99_ms for _, load in tails))
    ours = [load for name, load in tails if name in ROWS]
    ours += [load for each in rounds for name in ROWS for load in each.steady[name].loads]
    asked = sum(load.replies + load.broken + load.unsent + load.unanswered for load in ours)
    right = sum(load.undegraded for load in ours) / max(asked, 1)
    yield Figure("share of our answers that are 200 and undegraded", right, RIGHT_BAR, f"of {asked}")
