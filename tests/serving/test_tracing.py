from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from recsys.serving_config import TracingConfig
from serving.recent_traces import RecentTraces, TracedRequest
from serving.tracing import Answered, Tracing, open_tracing, tracing_to
from tests.serving.asking import recommend, soon
from tests.serving.conftest import Serve
from tests.serving.test_recent_traces import slate

ANSWERED = Answered("POST", "/v1/recommendations", 200, 0.01)
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def traceparent(flags: str = "01") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"traceparent", f"00-{TRACE_ID}-{PARENT_ID}-{flags}".encode())]


def traced() -> TracedRequest:
    traces = RecentTraces(1, 1 << 20)
    traces.put(slate("somebody's", n_items=2), surface="home")
    found = traces.get("somebody's")
    assert found is not None
    return found


def spans_of(*notes: tuple[list[tuple[bytes, bytes]], Answered, TracedRequest | None]) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = tracing_to(exporter, 1.0)
    for note in notes:
        tracing.note(*note)
    tracing.close()
    return list(exporter.get_finished_spans())


def sampling(share: float, *draws: float) -> Tracing:
    numbers = iter(draws)
    return tracing_to(InMemorySpanExporter(), share, draw=lambda: next(numbers))


def test_without_an_endpoint_there_is_no_tracing() -> None:
    assert open_tracing(TracingConfig()) is None


def test_a_span_names_the_variants_of_its_request() -> None:
    found = traced()
    in_two = replace(found, slate=replace(found.slate, variants={"pinned": "treatment", "shorter": "control"}))
    request = next(span for span in spans_of(([], ANSWERED, in_two)) if span.parent is None)
    assert (request.attributes or {})["recsys.variants"] == ("pinned=treatment", "shorter=control")


def test_a_share_is_sampled_by_chance() -> None:
    tracing = sampling(0.25, 0.1, 0.24, 0.25, 0.9)
    assert [tracing.is_sampled([]) for _ in range(4)] == [True, True, False, False]
    tracing.close()


def test_a_caller_that_decided_is_followed() -> None:
    always, never = sampling(1.0), sampling(0.0)
    assert never.is_sampled(traceparent("01"))
    assert not always.is_sampled(traceparent("00"))
    for tracing in (always, never):
        tracing.close()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"ff-{TRACE_ID}-{PARENT_ID}-01".encode(),
        f"00-{'0' * 32}-{PARENT_ID}-01".encode(),
        f"00-{TRACE_ID}-{'0' * 16}-01".encode(),
        f"00-{TRACE_ID.upper()}-{PARENT_ID}-01".encode(),
        b"\xff\xfe",
    ],
)
def test_what_is_no_traceparent_decides_nothing(value: bytes) -> None:
    tracing = sampling(0.5, 0.9)
    assert not tracing.is_sampled([(b"traceparent", value)])
    tracing.close()


def test_a_request_is_a_span_and_each_stage_a_child_inside_it() -> None:
    spans = {span.name: span for span in spans_of(([], ANSWERED, traced()))}
    request = spans.pop("POST /v1/recommendations")
    assert list(spans) == ["hydrate", "filter", "rank"]
    assert request.parent is None
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/v1/recommendations",
        "http.response.status_code": 200,
        "recsys.release": "r1",
        "recsys.n_items": 2,
        "recsys.degraded": ("hydrate",),
        "recsys.surface": "home",
    }
    ends = [span.end_time or 0 for span in spans.values()]
    starts = [span.start_time or 0 for span in spans.values()]
    assert starts[1:] == ends[:-1], "one after another"
    assert {end - start for start, end in zip(starts, ends, strict=True)} == {500_000}
    assert (request.start_time or 0) <= starts[0]
    assert ends[-1] <= (request.end_time or 0)
    for span in spans.values():
        assert span.parent is not None
        assert span.context is not None
        assert request.context is not None
        assert span.parent.span_id == request.context.span_id
        assert span.context.trace_id == request.context.trace_id


def test_a_callers_trace_goes_on() -> None:
    (span,) = spans_of((traceparent(), ANSWERED, None))
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, PARENT_ID)


def test_no_id_of_a_user_an_item_or_a_request_is_in_a_span() -> None:
    for span in spans_of(([], ANSWERED, traced())):
        text = span.to_json()
        assert not [word for word in ("somebody", "i0", "because") if f'"{word}' in text]


class Collector(ThreadingHTTPServer):
    """An OTLP collector on loopback that keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def names(self) -> list[str]:
        return [span.name for _, sent in self.requests for resource in sent.resource_spans
                for scope in resource.scope_spans for span in scope.spans]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_service_sends_its_spans_to_a_collector(serve: Serve, collector: Collector) -> None:
    client = serve(tracing={"endpoint": collector.address, "sample_share": 1.0})
    recommend(client, user_id="somebody", history=[{"item_id": "a1"}])
    client.get("/healthz")
    soon(lambda: "GET /healthz" in collector.names(), within_s=10)
    assert {"POST /v1/recommendations", "hydrate", "retrieve", "filter", "rank", "expose"} <= set(collector.names())
    path, sent = collector.requests[0]
    assert path == "/v1/traces"
    assert sent.resource_spans[0].resource.attributes[0].value.string_value == "recsys"
    assert "somebody" not in str([each for _, each in collector.requests])


def test_a_collector_that_is_down_or_hangs_fails_no_request(serve: Serve, tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for port in (1, silent.getsockname()[1]):
            endpoint = f"http://127.0.0.1:{port}"
            client = serve(tracing={"endpoint": endpoint, "sample_share": 1.0, "timeout_s": 0.2})
            for _ in range(400):  # more than a queue holds, stages included
                recommend(client, limit=1)


def test_a_span_that_cannot_be_made_fails_nothing() -> None:
    assert spans_of(([], Answered("POST", "/x", 200, float("inf")), None)) == []
