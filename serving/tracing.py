"""OpenTelemetry traces of a share of the requests, over OTLP/HTTP. Home of opentelemetry.

A request's spans are made when it has been answered, from what was measured anyway: the span of the request and a child
for each stage. So a request that is not sampled pays for a look at its headers and one random number, and nothing else.
Spans name the release, the surface, variants and counts; never users, items or keys.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recsys.serving_config import TracingConfig
from serving.recent_traces import TracedRequest
from serving.telemetry import log

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

TRACES_PATH = "/v1/traces"
MAX_QUEUED = 2048
MAX_BATCH = 256
EXPORT_EVERY_MS = 1000
# W3C Trace Context, version 00 (and what later versions must begin with).
TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Answered:
    """A request as its envelope knows it: the template of its path, never the path."""

    method: str
    route: str
    status: int
    seconds: float


class Tracing:
    """Samples requests and sends their spans in the background; what cannot be sent is dropped."""

    def __init__(
        self, provider: TracerProvider, sample_share: float, draw: Callable[[], float] = random.random
    ) -> None:
        """`draw` gives numbers in [0, 1) that decide for requests without a caller's decision."""
        self._provider = provider
        self._tracer = provider.get_tracer("recsys.serving")
        self._sample_share = sample_share
        self._draw = draw

    def is_sampled(self, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        """Whether this request's spans shall be sent: as the caller decided, else by chance."""
        parent = _traceparent(headers)
        if parent is not None:
            return bool(int(parent[3], 16) & 1)
        return self._draw() < self._sample_share

    def note(
        self, headers: Sequence[tuple[bytes, bytes]], answered: Answered, traced: TracedRequest | None = None
    ) -> None:
        """Make the spans of a sampled request that has just been answered; `traced` where it made a slate.

        Nothing that goes wrong here reaches the request.
        """
        try:
            self._make_spans(_context_of(headers), answered, traced, time.time_ns())
        except Exception:
            log(logging.ERROR, "a trace could not be made", exc_info=True, route=answered.route)

    def close(self) -> None:
        """Send what is queued, if the collector takes it within the export's time limit."""
        self._provider.shutdown()

    def _make_spans(self, parent: Context, answered: Answered, traced: TracedRequest | None, now_ns: int) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        span = self._tracer.start_span(
            f"{answered.method} {answered.route}",
            parent,
            kind=SpanKind.SERVER,
            attributes=_attributes(answered, traced),
            start_time=now_ns - int(answered.seconds * 1e9),
        )
        if traced is not None:
            inside = set_span_in_context(span, parent)
            for name, attributes, start_ns, end_ns in _stages(traced):
                stage = self._tracer.start_span(name, inside, attributes=attributes, start_time=start_ns)
                stage.end(end_ns)
        if answered.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(now_ns)


def open_tracing(config: TracingConfig) -> Tracing | None:
    """Tracing to `config.endpoint`, or None where there is none; only then is the library loaded."""
    if not config.endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(config.endpoint + TRACES_PATH, timeout=config.timeout_s)
    return tracing_to(exporter, config.sample_share, timeout_s=config.timeout_s)


def tracing_to(
    exporter: SpanExporter, sample_share: float, *, timeout_s: float = 2.0, draw: Callable[[], float] = random.random
) -> Tracing:
    """Tracing that sends to `exporter` in batches."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    # Its own warnings would fill our log while the collector is down; what is lost are traces only.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    # All that come here are sampled already; a span's parent is honoured by `is_sampled`.
    provider = TracerProvider(ALWAYS_ON, Resource({"service.name": "recsys"}), shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, MAX_QUEUED, EXPORT_EVERY_MS, MAX_BATCH, int(timeout_s * 1e3))
    )
    return Tracing(provider, sample_share, draw)


def _traceparent(headers: Sequence[tuple[bytes, bytes]]) -> re.Match[bytes] | None:
    for name, value in headers:
        if name == b"traceparent":
            return TRACEPARENT.fullmatch(value.strip())
    return None


def _context_of(headers: Sequence[tuple[bytes, bytes]]) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    names = (b"traceparent", b"tracestate")
    carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in names}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _attributes(answered: Answered, traced: TracedRequest | None) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "http.request.method": answered.method,
        "http.route": answered.route,
        "http.response.status_code": answered.status,
    }
    if traced is not None:
        slate = traced.slate
        attributes |= {"recsys.release": slate.release, "recsys.n_items": len(slate.items)}
        attributes |= {"recsys.degraded": slate.degraded, "recsys.surface": traced.surface}
        if slate.variants:
            attributes["recsys.variants"] = tuple(f"{name}={variant}" for name, variant in slate.variants.items())
    return attributes


def _stages(traced: TracedRequest) -> list[tuple[str, dict[str, Any], int, int]]:
    """(name, attributes, start, end) of each stage: they ran in turn, and `traced` was made after the last."""
    spans = []
    end_ns = traced.finished_ns
    for stage in reversed(traced.slate.trace):
        start_ns = end_ns - int(stage.duration_ms * 1e6)
        attributes = {"recsys.n_in": stage.n_in, "recsys.n_out": stage.n_out}
        spans.append((stage.name, attributes | {"recsys.fallback": stage.fallback}, start_ns, end_ns))
        end_ns = start_ns
    return spans[::-1]
