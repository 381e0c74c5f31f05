"""What the service says about itself: Prometheus metrics and JSON log lines. No ids of users, no keys."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from recsys.types import Slate

CacheName = Literal["query_vector", "content_vector", "user_state", "query_text", "encoder_process"]
CacheResult = Literal["hit", "miss"]

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST
LOGGER = logging.getLogger("recsys.serving")
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STAGE_BUCKETS_S = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


class Telemetry:
    """The metrics of one application; each has its own registry, so that two in one process do not mix."""

    def __init__(self, shared_dir: Path | None = None) -> None:
        """`shared_dir`: where the workers of one service keep their numbers, so that any of them answers for all; the
        library takes that folder from the environment (`serving.settings`), and this must be the same."""
        self.registry = CollectorRegistry()
        self._shared_dir = shared_dir
        self._serving_release = ""
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry, multiprocess_mode="mostrecent")
        histogram = partial(Histogram, registry=self.registry)
        self._requests = histogram(
            "recsys_request_seconds", "Time of a request", ["route", "status"], buckets=REQUEST_BUCKETS_S
        )
        self._stages = histogram(
            "recsys_stage_seconds", "Time of one stage of a recommendation", ["stage"], buckets=STAGE_BUCKETS_S
        )
        self._stage_in = counter("recsys_stage_in", "Candidates that went into a stage", ["stage"])
        self._stage_out = counter("recsys_stage_out", "Candidates that came out of a stage", ["stage"])
        self._degraded = counter("recsys_degraded", "Slates in which a stage fell back", ["stage"])
        self._slates = counter("recsys_slates", "Slates served, and whether they were empty", ["empty"])
        self._events = counter("recsys_events", "Events by what became of them", ["status"])
        self._upserts = counter("recsys_item_upserts", "Items written over HTTP")
        self._caches = counter("recsys_cache_requests", "Look-ups in a cache", ["cache", "result"])
        self._store_errors = counter("recsys_store_errors", "Calls that the store did not answer", ["call"])
        self._release = gauge("recsys_release_info", "1 for the release that serves, 0 for earlier ones", ["release"])
        self._swaps = counter("recsys_release_swaps", "Releases that took over")
        self._refused = counter("recsys_release_refused", "Releases that could not be loaded")
        self._items = gauge("recsys_items", "Items of the catalogue, upserts included")
        self._live_age = gauge("recsys_live_items_age_seconds", "Time since upserts were last read, at the last poll")

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).observe(seconds)

    def slate(self, slate: Slate) -> None:
        """Count a slate and its stages."""
        for stage in slate.trace:
            self._stages.labels(stage.name).observe(stage.duration_ms / 1e3)
            self._stage_in.labels(stage.name).inc(stage.n_in)
            self._stage_out.labels(stage.name).inc(stage.n_out)
        for name in slate.degraded:
            self._degraded.labels(name).inc()
        self._slates.labels("false" if slate.items else "true").inc()

    def events(self, status: str, count: int) -> None:
        self._events.labels(status).inc(count)

    def upserted(self) -> None:
        self._upserts.inc()

    def cache(self, name: CacheName, result: CacheResult) -> None:
        self._caches.labels(name, result).inc()

    def store_error(self, call: str) -> None:
        self._store_errors.labels(call).inc()

    def release(self, release_id: str) -> None:
        if self._serving_release:
            self._release.labels(self._serving_release).set(0)
        self._release.labels(release_id).set(1)
        self._serving_release = release_id
        self._swaps.inc()

    def release_refused(self) -> None:
        self._refused.inc()

    def catalog(self, n_items: int, live_age_s: float) -> None:
        self._items.set(n_items)
        self._live_age.set(live_age_s)

    def rendered(self) -> bytes:
        """In Prometheus' text format."""
        if self._shared_dir is None:
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all, path=str(self._shared_dir))  # type: ignore[no-untyped-call]
        return generate_latest(of_all)


class JsonLines(logging.Formatter):
    """One JSON object a line: when, level, what, and the fields given as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


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
