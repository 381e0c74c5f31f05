"""`make bench-serving` works: the whole of it at tiny sizes, without its bars."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks._serving.processes import bare_environment
from tests.benchmarks._serving.world import ROOT

pytestmark = pytest.mark.slow

# One figure of each part and of each promise; a figure that was not measured is None.
EXPECTED = (
    "(a) cached: CPU against the textbook stack",
    "(a) cached: CPU against the tuned stack",
    "(a) cached: CPU against its bare parts",
    "(a) cached: (p99 - null's p99) / own p50 at 60 % load",
    "(b) cache off: tower, CPU-µs",
    "(b) cache off: all but the tower, CPU-µs",
    "(b) cache off: CPU against its bare parts",
    "(b) cache off: (p99 - null's p99) / own p50 at 60 % load",
    "features: ours / HGETALL pipeline",
    "overload 2x: undegraded goodput / peak",
    "overload 5x: undegraded goodput / peak",
    "overload: largest memory / before",
    "overload: after it, share 200 and undegraded at 60 %",
    "soak: growth of resident memory, MiB",
    "soak: growth of open descriptors",
    "soak: replies to somebody else",
    "cold start to ready, s",
)


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks.serving", *options]
    return subprocess.run(command, cwd=ROOT, env=bare_environment(), capture_output=True, text=True, timeout=300)


def test_every_part_of_it_is_measured_at_tiny_sizes(tmp_path: Path) -> None:
    done = bench("--smoke", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    figures = {each["name"]: each for each in json.loads((tmp_path / "figures.json").read_text())["figures"]}
    values = {name: figures[name]["value"] for name in EXPECTED}
    assert all(value is not None and math.isfinite(value) for value in values.values()), values
    assert values["soak: replies to somebody else"] == 0
    assert "round 1 of 1" in done.stderr


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    done = bench("--only", "speed")
    assert done.returncode != 0
    assert "latency,parts,features,overload,soak,cold" in done.stderr
