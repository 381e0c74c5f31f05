"""GET /v1/experiments/assignment: the variants of a user or session, also without asking for items."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request

from recsys.errors import InvalidRequest
from recsys.fields import parse_id
from serving.bodies import Reply, json_reply
from serving.operations import Operation
from serving.queries import variants_of
from serving.query_strings import SESSION_ID, SURFACE, USER_ID, asked_by
from serving.schemas import AssignmentReply
from serving.service import service_of

PARAMETERS = (USER_ID, SESSION_ID, SURFACE)


async def experiment_assignment(request: Request) -> Reply:
    """What a request for items with these ids would be part of. Nothing is written: an exposure is a slate served."""
    asked = asked_by(request, PARAMETERS)
    ids = {"user_id": asked.user_id, "session_id": asked.session_id}
    named = [parse_id(value, name) for name, value in ids.items() if value is not None]
    if not named:
        raise InvalidRequest("give user_id, session_id or both: they decide the variants", field="/user_id")
    surfaces = service_of(request).surfaces()
    surfaces.resolve(asked.surface)  # refuses one that is not there
    return json_reply(AssignmentReply(variants_of(asked, surfaces, datetime.now(UTC))))


OPERATION = Operation(
    "GET",
    "/v1/experiments/assignment",
    experiment_assignment,
    "The variants of the experiments that a user or a session is part of",
    scope="read",
    reply=AssignmentReply,
    parameters=PARAMETERS,
    problems=(422, 429, 500),
)
