"""POST /v1/events:batch. Each event is judged alone and answered in its place; the good ones are one atomic step."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
from starlette.requests import Request

from recsys.errors import InvalidRequest, StoreUnavailable, TooLarge
from recsys.events import EPOCH, Interaction
from recsys.fields import parse_id, parse_object
from serving.bodies import Reply, decode, json_reply, read_body
from serving.operations import Operation
from serving.schemas import Event, EventBatch, EventBatchReply, EventStatusReply
from serving.service import Service, service_of

# A phone's clock may be ahead by this much; later events would hold the end of a history for as long.
MAX_AHEAD = timedelta(hours=1)
# What was merely shown is no behaviour: learned from as such it would teach the model its own slates.
NOT_BEHAVIOUR = frozenset({"impression", "exposure"})

STATUSES = ("accepted", "duplicate", "rejected")

_BATCH = msgspec.json.Decoder(EventBatch)
_EVENT = msgspec.json.Decoder(Event)
_ANY = msgspec.json.Decoder()


async def events_batch(request: Request) -> Reply:
    """Takes events; the next answer to each of their users knows them."""
    service = service_of(request)
    service.requests.require_room()
    body = await read_body(request, service.settings.serving.limits.max_events_bytes)
    reply = await service.requests.run(lambda: take(service, body, datetime.now(UTC)))
    return json_reply(reply, 202)


def take(service: Service, body: bytes, now: datetime) -> EventBatchReply:
    """Judge, write and answer.

    Raises:
        InvalidRequest: the body is no batch.
        TooLarge: more events than one batch may have.
        StoreUnavailable: nothing is acknowledged; the same batch may be sent again.
    """
    raw_events = _events_of(body)
    most = service.settings.serving.limits.max_events
    if len(raw_events) > most:
        raise TooLarge(f"{len(raw_events)} events; a batch has at most {most}", field="/events")
    judged = [judge(raw, now) for raw in raw_events]
    interactions = [each for each in judged if isinstance(each, Interaction)]
    try:
        written = iter(service.store.append(interactions) if interactions else [])
    except StoreUnavailable:
        service.telemetry.store_error("append")
        raise
    statuses = [
        EventStatusReply(next(written), each.event_id) if isinstance(each, Interaction) else each for each in judged
    ]
    return _reply(service, statuses, interactions)


def _events_of(body: bytes) -> list[msgspec.Raw]:
    """The batch's events, not yet looked at.

    A lone surrogate ("\\ud83d", half of an emoji that a phone cut in two) or a NaN makes the whole body unreadable to
    the fast parser; the lenient one takes it apart, so that the event which holds it is refused alone.
    """
    try:
        return decode(_BATCH, body).events
    except InvalidRequest:
        events = _taken_apart(body)
        if events is None:
            raise
        return events


def _taken_apart(body: bytes) -> list[msgspec.Raw] | None:
    try:
        batch = json.loads(body.decode())
        if not isinstance(batch, dict) or batch.keys() != {"events"} or not isinstance(batch["events"], list):
            return None
        return [msgspec.Raw(json.dumps(event).encode()) for event in batch["events"]]
    except (ValueError, RecursionError):
        return None


def judge(raw: msgspec.Raw, now: datetime) -> Interaction | EventStatusReply:
    """The event, or why it is rejected."""
    try:
        event = decode(_EVENT, raw)
        _require_plausible(event, now)
        return Interaction(
            event_id=parse_id(event.event_id, "event_id"),
            user_id=parse_id(event.user_id, "user_id"),
            item_id=parse_id(event.item_id, "item_id"),
            occurred_at=event.occurred_at.astimezone(UTC),
            event_type=event.event_type,
            value=event.value,
            recommendation_id=event.recommendation_id,
            position=event.position,
            context=parse_object(event.context, "context"),
        )
    except InvalidRequest as error:
        return EventStatusReply("rejected", _event_id(raw), str(error), error.field)


def _require_plausible(event: Event, now: datetime) -> None:
    if event.event_type in NOT_BEHAVIOUR:
        message = f"{event.event_type} is no behaviour: only what users did is taken by this version"
        raise InvalidRequest(message, field="/event_type")
    if event.occurred_at < EPOCH:
        raise InvalidRequest("occurred_at lies before 1970", field="/occurred_at")
    if event.occurred_at > now + MAX_AHEAD:
        raise InvalidRequest("occurred_at lies in the future: set the sender's clock", field="/occurred_at")


def _event_id(raw: msgspec.Raw) -> str | None:
    """The id of an event that is refused, where it has one, so that its sender can find it."""
    try:
        event_id = decode(_ANY, raw).get("event_id")
    except (InvalidRequest, AttributeError):
        return None
    return event_id[:256] if isinstance(event_id, str) else None


def _reply(service: Service, statuses: list[EventStatusReply], interactions: list[Interaction]) -> EventBatchReply:
    counts = {status: sum(each.status == status for each in statuses) for status in STATUSES}
    for status, count in counts.items():
        service.telemetry.events(status, count)
    view = service.releases.view
    unknown = [] if view is None else [each.item_id for each in interactions if view.row(each.item_id) is None]
    return EventBatchReply(statuses, **counts, missing_ids=tuple(dict.fromkeys(unknown)))


OPERATION = Operation(
    "POST",
    "/v1/events:batch",
    events_batch,
    "What users did, at most 1,000 events and 1 MiB",
    scope="events",
    lane="slow",
    status=202,
    body=EventBatch,
    reply=EventBatchReply,
    parts=(Event,),
    problems=(401, 408, 413, 415, 422, 429, 500, 503),
    example={
        "events": [
            {
                "event_id": "5f0c",
                "user_id": "42",
                "item_id": "1270",
                "event_type": "click",
                "occurred_at": "2026-05-01T12:00:00Z",
            }
        ]
    },
)
