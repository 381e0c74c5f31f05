"""GET /v1/recommendations/{recommendation_id}/trace: what the stages of a recent request did, and where its items came
from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import NotFound
from serving.operations import Operation
from serving.recent_traces import RecentTraces, TracedRequest
from serving.schemas import Stage, TracedItem, TraceReply
from serving.service import service_of
from serving.trace_peers import TracePeers

ENCODER = msgspec.json.Encoder()


async def recommendation_trace(request: Request) -> Response:
    """What became of a recent request."""
    service = service_of(request)
    peers: TracePeers = request.app.state.trace_peers
    found = await peers.find(request.path_params["recommendation_id"])
    if found is None:
        n_kept = service.traces.capacity
        raise NotFound(
            f"this trace is not kept (any more): each worker keeps those of its last {n_kept} recommendations, and at "
            "most max_bytes of them; [serving.traces] sets both. Other hosts keep their own"
        )
    return Response(found, media_type="application/json")


def renderer(traces: RecentTraces) -> Callable[[str], bytes | None]:
    """Gives a kept trace as JSON, and None for one that is not kept."""

    def rendered(recommendation_id: str) -> bytes | None:
        traced = traces.get(recommendation_id)
        return None if traced is None else ENCODER.encode(reply_of(traced))

    return rendered


def reply_of(traced: TracedRequest) -> TraceReply:
    slate = traced.slate
    return TraceReply(
        recommendation_id=slate.recommendation_id,
        finished_at=datetime.fromtimestamp(traced.finished_ns / 1e9, UTC),
        release=slate.release,
        surface=traced.surface,
        variants=slate.variants,
        degraded=slate.degraded,
        missing_ids=slate.missing_ids,
        stages=tuple(Stage(each.name, each.duration_ms, each.n_in, each.n_out, each.fallback) for each in slate.trace),
        dropped=traced.dropped,
        items=tuple(
            TracedItem(
                each.item_id,
                each.position,
                each.value,
                each.source,
                each.reasons,
                each.propensity,
                each.parts,
                each.because,
            )
            for each in slate.items
        ),
    )


OPERATIONS = (
    Operation(
        "GET",
        "/v1/recommendations/{recommendation_id}/trace",
        recommendation_trace,
        "What became of one of the last recommendations: stages, rules, and where each item came from",
        scope="admin",
        lane="watched",
        reply=TraceReply,
        parts=(Stage, TracedItem),
        parameters=({"name": "recommendation_id", "in": "path", "required": True, "schema": {"type": "string"}},),
        problems=(404, 500),
    ),
)
