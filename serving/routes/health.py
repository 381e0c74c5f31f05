"""GET /healthz (the process lives), /readyz (it answers a query), /metrics (Prometheus)."""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import StoreUnavailable
from serving.bodies import Reply, json_reply
from serving.errors import problem
from serving.operations import Operation
from serving.schemas import HealthReply
from serving.service import Service, service_of
from serving.telemetry import METRICS_CONTENT_TYPE, log

NOT_READY_RETRY_S = 2


async def healthz(request: Request) -> Reply:
    """The process lives and its event loop turns."""
    return json_reply(HealthReply("ok"))


async def readyz(request: Request) -> Reply | Response:
    """Whether traffic should come here: a release is loaded and answers.

    A store that is down does not make it unready: slates are then degraded, and no other worker could do better.
    """
    service = service_of(request)
    health = await service.requests.run(lambda: _health(service))
    if health.status == "not_ready":
        headers = {"Retry-After": str(NOT_READY_RETRY_S)}
        return problem(503, "; ".join(health.reasons), kind="not-ready", headers=headers)
    return json_reply(health)


async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    telemetry = service_of(request).telemetry
    return Response(telemetry.rendered(), media_type=METRICS_CONTENT_TYPE)


def _health(service: Service) -> HealthReply:
    releases = service.releases
    view = releases.view
    if view is None:
        refused = f" (release {releases.refused} was refused: see the log)" if releases.refused else ""
        if releases.storage_is_silent:
            return HealthReply("not_ready", reasons=("the release store does not answer: see the log",))
        return HealthReply(
            "not_ready", reasons=(f"no release is published: run `recsys release build --publish`{refused}",)
        )
    try:
        releases.check(view)
    except Exception as error:  # whatever it is, traffic should go elsewhere
        log(logging.ERROR, "the check query failed", exc_info=True)
        return HealthReply("not_ready", reasons=(f"the check query failed: {type(error).__name__}",))
    reasons = _shortcomings(service)
    return HealthReply("degraded" if reasons else "ready", view.release.release_id, len(view), reasons)


def _shortcomings(service: Service) -> tuple[str, ...]:
    found = []
    try:
        service.store.ping()
    except StoreUnavailable:
        service.telemetry.store_error("ping")
        found.append("the store does not answer")
    if service.releases.live_is_stale:
        found.append("upserts of items could not be read lately")
    if service.releases.storage_is_silent:
        found.append("the release store does not answer; the release known last goes on")
    problem = service.config_problem()
    if problem is not None:
        found.append(f"recsys.toml is refused, and the settings before it are in force: {problem}")
    if service.releases.refused is not None:
        found.append(f"release {service.releases.refused} was refused; an earlier one answers")
    return tuple(found)


OPERATIONS = (
    Operation("GET", "/healthz", healthz, "Whether the process lives", scope="open", lane="watched", reply=HealthReply),
    Operation(
        "GET",
        "/readyz",
        readyz,
        "Whether it answers queries",
        scope="open",
        lane="watched",
        reply=HealthReply,
        problems=(503,),
    ),
    Operation("GET", "/metrics", metrics, "Prometheus metrics", scope="admin", lane="watched", reply_type="text/plain"),
)
