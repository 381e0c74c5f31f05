"""`make bench-serving`: the online service beside two other stacks and beside the bare cost of its parts.

One process on the first core, the client (and Redis) on the last; 100,000 items of width 128, some 200 candidates
ranked, 20 items out. Figures stand beside their bars; exit code 1 where one falls short. The world is built once and
kept in `build/bench-serving`.

    make bench-serving ARGS="--only latency,parts --rounds 5 --seconds 4 --json figures.json"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tests.benchmarks._serving.bare import feature_figures
from tests.benchmarks._serving.bench import SMOKE_EFFORT, Bench, Effort, say
from tests.benchmarks._serving.cold import cold_figures
from tests.benchmarks._serving.latency import latency_figures, parts_only_figures
from tests.benchmarks._serving.overload import overload_figures
from tests.benchmarks._serving.processes import Cores
from tests.benchmarks._serving.soak import soak_figures
from tests.benchmarks._serving.world import ROOT, SMOKE_SIZE, WorldSize, ensure_world
from tests.benchmarks._table import Figure, show

PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "latency": latency_figures,
    "parts": parts_only_figures,
    "features": feature_figures,
    "overload": overload_figures,
    "soak": soak_figures,
    "cold": cold_figures,
}
# Options that overrule one field of `Effort`.
EFFORTS = (
    "rounds",
    "seconds",
    "open_seconds",
    "users",
    "calls",
    "overload_seconds",
    "soak_requests",
    "soak_first",
    "cold_starts",
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    unknown = sorted(set(names) - PARTS.keys())
    if unknown:
        raise SystemExit(f"there is no part {', '.join(unknown)}; write some of {','.join(PARTS)}")
    effort = SMOKE_EFFORT if options.smoke else Effort()
    effort = replace(effort, **{name: getattr(options, name) for name in EFFORTS if getattr(options, name) is not None})
    size = SMOKE_SIZE if options.smoke else WorldSize()
    world = ensure_world(options.cache, size)
    cores = Cores.of_this_machine()
    say(f"server on core {cores.server}; client and Redis on core {cores.client}")
    figures: list[Figure] = []
    with Bench(world, effort, cores) as bench:
        for name in names:
            if name == "parts" and "latency" in names:
                continue  # its rounds have measured them too
            figures += PARTS[name](bench)
    exit_code = show(figures)
    if options.json is not None:
        options.json.write_text(json.dumps(report(figures, world.size, effort), indent=1))
    return 0 if options.smoke else exit_code


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="some of the parts, by comma")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one round, no bars: does the harness work?")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "bench-serving", help="where worlds are kept")
    for name in EFFORTS:
        default = getattr(Effort(), name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), help=f"{default} by default")
    return parser


def report(figures: Sequence[Figure], size: WorldSize, effort: Effort) -> dict[str, object]:
    """What `--json` writes."""
    machine = {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    rows = [{**asdict(figure), "falls_short": figure.falls_short} for figure in figures]
    return {"machine": machine, "world": asdict(size), "effort": asdict(effort), "figures": rows}


if __name__ == "__main__":
    sys.exit(main())
