"""What the service says about itself: Prometheus metrics and JSON log lines. No ids of users, no keys."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import traceback
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from recsys.errors import RecsysError, RequestError
from recsys.types import Slate
from serving.counter_files import CounterFiles
from serving.counters import Counters, Observed, Scrape

CacheName = str
CacheResult = Literal["hit", "miss"]

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST
LOGGER = logging.getLogger("recsys.serving")
# Fine from 1 to 50 ms, where the budgets lie: a p99 read from these is off by a fifth at most.
REQUEST_BUCKETS_S = (
    *(0.0005, 0.00075, 0.001, 0.00125, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.006, 0.0075, 0.01, 0.0125, 0.015),
    *(0.02, 0.025, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
)
STAGE_BUCKETS_S = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075),
    *(0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25),
)
RECALL_BUCKETS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)
# The mean is of this many measurements of each worker, the latest.
RECALL_WINDOW = 256
RELEASES_SHOWN = 8
FLUSH_EVERY_S = 1.0


class _Stage:
    """What is counted of one stage, looked up once for each slate it is in."""

    __slots__ = ("labels", "n_in", "n_out", "seconds")

    def __init__(self, name: str, seconds: Observed) -> None:
        self.labels = (name,)
        self.seconds = seconds
        self.n_in = 0
        self.n_out = 0


class Telemetry:
    """The metrics of one application; each has its own numbers, so that two in one process do not mix."""

    def __init__(self, shared_dir: Path | None = None) -> None:
        """`shared_dir`: where the workers of one service keep their numbers, so that any of them answers for all.

        Its folder must be there before the first `flush`.
        """
        self._files = None if shared_dir is None else CounterFiles(shared_dir, os.getpid(), secrets.token_hex(4))
        self._counters = counters = Counters()
        self._lock = counters.lock
        counter, gauge, histogram = counters.counter, counters.gauge, counters.histogram
        self._requests = histogram(
            "recsys_request_seconds", "Time of a request", "route", "status", buckets=REQUEST_BUCKETS_S
        )
        self._by_route: dict[tuple[str, int], Observed] = {}
        self._stages = histogram(
            "recsys_stage_seconds", "Time of one stage of a recommendation", "stage", buckets=STAGE_BUCKETS_S
        )
        self._by_stage: dict[str, _Stage] = {}
        self._stage_in = counter("recsys_stage_in", "Candidates that went into a stage", "stage")
        self._stage_out = counter("recsys_stage_out", "Candidates that came out of a stage", "stage")
        self._degraded = counter("recsys_degraded", "Slates in which a stage fell back", "stage")
        self._slates = counter("recsys_slates", "Slates served, and whether they were empty", "empty")
        self._n_slates = [0, 0]  # with items, empty
        self._surfaces = counter("recsys_surface_slates", "Slates served, by the place they were asked for", "surface")
        self._dropped = counter("recsys_dropped_candidates", "Candidates that a hard rule took out", "rule")
        self._events = counter("recsys_events", "Events by what became of them", "status")
        self._upserts = counter("recsys_item_upserts", "Items written over HTTP")
        self._caches = counter("recsys_cache_requests", "Look-ups in a cache", "cache", "result")
        self._cache_entries = gauge("recsys_cache_entries", "Entries of a cache, all workers together", "cache")
        self._queues = gauge("recsys_queue_depth", "Calls in work or waiting, all workers together", "queue")
        self._shed = counter("recsys_shed", "Requests refused because the service is full", "status")
        self._rate_limited = counter("recsys_rate_limited", "Requests of a key that calls too often")
        self._store_errors = counter("recsys_store_errors", "Calls that the store did not answer", "call")
        self._recall = histogram(
            "recsys_online_recall", "Share of the exact neighbours that a served search found", buckets=RECALL_BUCKETS
        )
        self._recall_mean = gauge("recsys_online_recall_mean", "Mean of the latest online recalls", merge="mean")
        self._recalls: deque[float] = deque(maxlen=RECALL_WINDOW)
        self._release = gauge(
            "recsys_release_info", "1 for a release that serves, 0 for earlier ones", "release", merge="max"
        )
        self._swaps = counter("recsys_release_swaps", "Releases that took over")
        self._refused = counter("recsys_release_refused", "Releases that could not be loaded")
        self._items = gauge("recsys_items", "Items of the catalogue, upserts included", merge="max")
        self._live_age = gauge(
            "recsys_live_items_age_seconds", "Time since upserts were last read, at the last poll", merge="max"
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        with self._lock:
            observed = self._by_route.get((route, status))
            if observed is None:
                observed = self._by_route[route, status] = self._requests.of((route, str(status)))
            observed.observe(seconds)

    def slate(self, slate: Slate) -> None:
        """Count a slate and its stages."""
        with self._lock:
            by_stage = self._by_stage
            for trace in slate.trace:
                stage = by_stage.get(trace.name) or self._stage(trace.name)
                stage.seconds.observe(trace.duration_ms * 1e-3)
                stage.n_in += trace.n_in
                stage.n_out += trace.n_out
            for name in slate.degraded:
                self._degraded.add((name,))
            self._n_slates[0 if slate.items else 1] += 1

    def surface(self, name: str) -> None:
        """A slate for that surface."""
        with self._lock:
            self._surfaces.add((name,))

    def dropped(self, rule: str, n: int) -> None:
        """Candidates that a rule took out."""
        if n:
            with self._lock:
                self._dropped.add((rule,), n)

    def events(self, status: str, count: int) -> None:
        with self._lock:
            self._events.add((status,), count)

    def upserted(self) -> None:
        with self._lock:
            self._upserts.add(())

    def cache(self, name: CacheName, result: CacheResult) -> None:
        with self._lock:
            self._caches.add((name, result))

    def cache_size(self, name: CacheName, entries: int) -> None:
        with self._lock:
            self._cache_entries.set((name,), entries)

    def queue(self, name: str, depth: int) -> None:
        """How many calls are in work or waiting there now."""
        with self._lock:
            self._queues.set((name,), depth)

    def shed(self, status: int) -> None:
        """A request that was refused because the service is full."""
        with self._lock:
            self._shed.add((str(status),))

    def rate_limited(self) -> None:
        with self._lock:
            self._rate_limited.add(())

    def store_error(self, call: str) -> None:
        with self._lock:
            self._store_errors.add((call,))

    def online_recall(self, value: float) -> None:
        """One served search compared with exact search: the share (0 to 1) of the true neighbours that it found."""
        with self._lock:
            self._recall.of(()).observe(value)
            self._recalls.append(value)

    def release(self, release_id: str) -> None:
        """That release serves from now on."""
        with self._lock:
            shown = self._release.values
            shown.pop((release_id,), None)
            for earlier in shown:
                shown[earlier] = 0
            shown[release_id,] = 1
            for earlier in list(shown)[:-RELEASES_SHOWN]:
                del shown[earlier]
            self._swaps.add(())

    def release_refused(self) -> None:
        with self._lock:
            self._refused.add(())

    def catalog(self, n_items: int, live_age_s: float) -> None:
        with self._lock:
            self._items.set((), n_items)
            self._live_age.set((), live_age_s)

    def start(self) -> None:
        """The worker begins. Raises OSError where its numbers cannot be shared."""
        if self._files is not None:
            self._files.fold_ended()
            self.flush()

    def flush(self) -> None:
        """Let the other workers see this one's numbers; nothing to do for a single one. Raises OSError."""
        if self._files is not None:
            self._take_in()
            self._files.write(self._counters.snapshot())

    def rendered(self) -> bytes:
        """In Prometheus' text format: this worker's numbers as they are, those of others as they last flushed them."""
        self._take_in()
        living, ended = ([], []) if self._files is None else self._files.others()
        registry = CollectorRegistry()
        registry.register(Scrape(self._counters.merged([self._counters.snapshot(), *living], ended)))
        return generate_latest(registry)

    def _stage(self, name: str) -> _Stage:
        stage = self._by_stage[name] = _Stage(name, self._stages.of((name,)))
        return stage

    def _take_in(self) -> None:
        """Put what is counted apart for speed where it is read."""
        with self._lock:
            for stage in self._by_stage.values():
                self._stage_in.set(stage.labels, stage.n_in)
                self._stage_out.set(stage.labels, stage.n_out)
            for empty, n in zip(("false", "true"), self._n_slates, strict=True):
                self._slates.set((empty,), n)
            if self._recalls:
                self._recall_mean.set((), fmean(self._recalls))


class JsonLines(logging.Formatter):
    """One JSON object a line: when, level, what, and the fields given as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _without_values(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _without_values(error: BaseException) -> str:
    """Where it happened and what kind it is, with what led to it. What others' errors say may hold an id or a key
    (a KeyError does); ours say what to do."""
    parts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(parts) < 8:
        says = f": {seen}" if isinstance(seen, RecsysError) and not isinstance(seen, RequestError) else ""
        parts.insert(0, f"{''.join(traceback.format_tb(seen.__traceback__))}{type(seen).__name__}{says}")
        seen = seen.__cause__ or seen.__context__
    return "\nthen\n".join(parts)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send this service's log to stderr as JSON lines; called by the process that serves, never at import."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False


def log(level: int, message: str, *, exc_info: bool = False, **fields: Any) -> None:
    """One structured line."""
    LOGGER.log(level, message, extra={"fields": fields}, exc_info=exc_info)
