from __future__ import annotations

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recsys.trace import StageTrace
from recsys.types import Slate, SlateItem
from serving.counter_files import ENDED, CounterFiles
from serving.counters import Snapshot
from serving.telemetry import RELEASES_SHOWN, Telemetry

ITEMS = (SlateItem("a", 1.0, "ann", (), 0),)
STAGES = (StageTrace("retrieve", 1.5, 0, 200), StageTrace("filter", 0.02, 200, 150, "fallback"))
SLATE = Slate("r", ITEMS, "rel", degraded=("filter",), trace=STAGES)


def samples(telemetry: Telemetry) -> dict[tuple[str, tuple[str, ...]], float]:
    """What a scraper reads: (name, label values in the order of their names) → value."""
    families = text_string_to_metric_families(telemetry.rendered().decode())
    return {
        (each.name, tuple(each.labels[name] for name in sorted(each.labels))): each.value
        for family in families
        for each in family.samples
    }


def test_a_slate_counts_each_of_its_stages() -> None:
    telemetry = Telemetry()
    for _ in range(3):
        telemetry.slate(SLATE)
    telemetry.slate(Slate("r", (), "rel"))
    found = samples(telemetry)
    assert found["recsys_stage_in_total", ("filter",)] == 3 * 200
    assert found["recsys_stage_out_total", ("filter",)] == 3 * 150
    assert found["recsys_stage_seconds_count", ("retrieve",)] == 3
    assert found["recsys_stage_seconds_sum", ("retrieve",)] == pytest.approx(3 * 0.0015)
    assert found["recsys_degraded_total", ("filter",)] == 3
    assert found["recsys_slates_total", ("false",)] == 3
    assert found["recsys_slates_total", ("true",)] == 1


def test_a_time_falls_into_the_bucket_that_ends_with_it() -> None:
    telemetry = Telemetry()
    for seconds in (0.01, 0.010001, 99.0):
        telemetry.request("/v1/x", 200, seconds)
    found = samples(telemetry)
    assert found["recsys_request_seconds_bucket", ("0.0075", "/v1/x", "200")] == 0
    assert found["recsys_request_seconds_bucket", ("0.01", "/v1/x", "200")] == 1
    assert found["recsys_request_seconds_bucket", ("0.0125", "/v1/x", "200")] == 2
    assert found["recsys_request_seconds_bucket", ("+Inf", "/v1/x", "200")] == 3


def test_what_else_is_counted() -> None:
    telemetry = Telemetry()
    telemetry.dropped("seen", 7)
    telemetry.dropped("seen", 0)
    telemetry.surface("home")
    telemetry.shed(503)
    telemetry.rate_limited()
    telemetry.queue("requests", 3)
    telemetry.queue("requests", 1)
    telemetry.cache_size("query_vector", 12)
    telemetry.catalog(30, math.inf)
    for recall in (1.0, 0.9):
        telemetry.online_recall(recall)
    found = samples(telemetry)
    assert found["recsys_dropped_candidates_total", ("seen",)] == 7
    assert found["recsys_surface_slates_total", ("home",)] == 1
    assert found["recsys_shed_total", ("503",)] == 1
    assert found["recsys_rate_limited_total", ()] == 1
    assert found["recsys_queue_depth", ("requests",)] == 1
    assert found["recsys_cache_entries", ("query_vector",)] == 12
    assert found["recsys_live_items_age_seconds", ()] == math.inf
    assert found["recsys_online_recall_mean", ()] == pytest.approx(0.95)
    assert found["recsys_online_recall_bucket", ("0.9",)] == 1
    assert found["recsys_online_recall_count", ()] == 2
    assert found["recsys_item_upserts_total", ()] == 0


def test_labels_that_never_end_are_counted_together() -> None:
    telemetry = Telemetry()
    for number in range(1000):
        telemetry.surface(f"surface {number}")
    found = {
        labels: value for (name, labels), value in samples(telemetry).items() if name == "recsys_surface_slates_total"
    }
    assert len(found) <= 201
    assert sum(found.values()) == 1000


def test_only_the_last_releases_are_shown_and_one_serves() -> None:
    telemetry = Telemetry()
    for number in range(50):
        telemetry.release(f"r{number}")
    found = {labels[0]: value for (name, labels), value in samples(telemetry).items() if name == "recsys_release_info"}
    assert len(found) == RELEASES_SHOWN
    assert [release for release, value in found.items() if value] == ["r49"]


def test_no_count_is_lost_between_threads() -> None:
    telemetry = Telemetry()

    def count(_: int) -> None:
        for _ in range(2000):
            telemetry.slate(SLATE)
            telemetry.cache("query_vector", "hit")
            telemetry.request("/v1/x", 200, 0.001)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    found = samples(telemetry)
    assert found["recsys_stage_seconds_count", ("filter",)] == 8000
    assert found["recsys_cache_requests_total", ("query_vector", "hit")] == 8000
    assert found["recsys_request_seconds_count", ("/v1/x", "200")] == 8000


WORKER = """
import sys
from pathlib import Path
from serving.telemetry import Telemetry
from tests.serving.test_telemetry import SLATE
telemetry = Telemetry(Path(sys.argv[1]))
telemetry.start()
for _ in range(int(sys.argv[2])):
    telemetry.slate(SLATE)
    telemetry.request("/v1/x", 200, 0.002)
    telemetry.dropped("seen", 3)
    telemetry.queue("requests", 5)
telemetry.flush()
print("flushed", flush=True)
sys.stdin.read()
"""


def worker(folder: Path, n: int) -> subprocess.Popen[str]:
    """A process that counts `n` requests, says so, and stays until its input ends."""
    command = [sys.executable, "-c", WORKER, str(folder), str(n)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "flushed\n"
    return process


def test_a_scrape_gives_the_exact_sums_of_all_workers_and_of_those_that_ended(tmp_path: Path) -> None:
    workers = [worker(tmp_path, n) for n in (700, 300)]
    here = Telemetry(tmp_path)
    here.start()
    here.slate(SLATE)
    found = samples(here)
    assert found["recsys_stage_out_total", ("filter",)] == 150 * 1001
    assert found["recsys_request_seconds_count", ("/v1/x", "200")] == 1000
    assert found["recsys_request_seconds_bucket", ("0.0025", "/v1/x", "200")] == 1000
    assert found["recsys_dropped_candidates_total", ("seen",)] == 3000
    assert found["recsys_queue_depth", ("requests",)] == 10
    for process in workers:
        process.communicate()
    found = samples(here)
    assert found["recsys_stage_out_total", ("filter",)] == 150 * 1001
    assert ("recsys_queue_depth", ("requests",)) not in found, "a worker that ended has no queue"
    with worker(tmp_path, 50) as restarted:
        assert (tmp_path / ENDED).exists()
        assert len(list(tmp_path.glob("counters-*-*.bin"))) == 2
        found = samples(here)
        assert found["recsys_stage_out_total", ("filter",)] == 150 * 1051
        assert found["recsys_dropped_candidates_total", ("seen",)] == 3150
        restarted.communicate()


def test_restarts_leave_one_file_behind(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for number in range(5):
        gone = CounterFiles(tmp_path, ended.pid, str(number))
        gone.write(Snapshot({"n": [(("x",), 2.0)]}, {"h": [((), [1, 2], 0.5)]}))
        CounterFiles(tmp_path, os.getpid(), "here").fold_ended()
    assert sorted(path.name for path in tmp_path.iterdir()) == [ENDED, "counters.lock"]
    living, (total,) = CounterFiles(tmp_path, os.getpid(), "here").others()
    assert not living
    assert total.counts == {"n": [(("x",), 10.0)]}
    assert total.histograms == {"h": [((), [5, 10], 2.5)]}
