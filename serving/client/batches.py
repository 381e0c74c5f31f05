"""Events and items by the thousand: cut into requests that the service takes, their replies put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import uuid4

import msgspec

from serving.client.calls import NDJSON, Call
from serving.schemas import Event, EventBatchReply, Id, ItemBatchReply, ItemUpsert

MAX_LINES = 1000
MAX_EVENTS_BYTES = 1 << 20
MAX_ITEMS_BYTES = 32 << 20
_HEAD, _TAIL = b'{"events":[', b"]}"
_EVENTS_REPLY = msgspec.json.Decoder(EventBatchReply).decode
_ITEMS_REPLY = msgspec.json.Decoder(ItemBatchReply).decode


class NewEvent(Event, kw_only=True, forbid_unknown_fields=True):
    """Something a user did with an item. It gets its `event_id` when it is made: sent twice, it counts once.

    Raises:
        ValueError: `occurred_at` has no zone.

    >>> from datetime import UTC, datetime
    >>> click = NewEvent(user_id="42", item_id="1270", event_type="click", occurred_at=datetime(2026, 5, 1, tzinfo=UTC))
    >>> len(click.event_id)
    32
    """

    event_id: Id = msgspec.field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        if self.occurred_at.utcoffset() is None:
            raise ValueError("occurred_at has no zone: make it with datetime.now(UTC), or give it a tzinfo")


def event_calls(events: Iterable[Event]) -> Iterator[Call[EventBatchReply]]:
    """The events in batches of at most 1,000 and 1 MiB, in order; one call at least."""
    room = MAX_EVENTS_BYTES - len(_HEAD) - len(_TAIL)
    for lines in _in_batches(map(msgspec.json.encode, events), room):
        yield Call("POST", "/v1/events:batch", _EVENTS_REPLY, body=_HEAD + b",".join(lines) + _TAIL)


def item_calls(items: Iterable[ItemUpsert]) -> Iterator[Call[ItemBatchReply]]:
    """The items, one a line, in batches of at most 1,000 and 32 MiB, in order; one call at least."""
    for lines in _in_batches(map(msgspec.json.encode, items), MAX_ITEMS_BYTES):
        yield Call("POST", "/v1/items:batch", _ITEMS_REPLY, body=b"\n".join(lines), media_type=NDJSON)


def _in_batches(lines: Iterable[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    """A line that is larger than a batch may be goes alone: the service says so better than we could."""
    batch: list[bytes] = []
    n_bytes = 0
    for line in lines:
        if batch and (len(batch) == MAX_LINES or n_bytes + len(line) + 1 > max_bytes):
            yield batch
            batch, n_bytes = [], 0
        batch.append(line)
        n_bytes += len(line) + 1
    yield batch


def events_together(replies: Sequence[EventBatchReply]) -> EventBatchReply:
    """One reply to all batches: a status for each event, in order."""
    return EventBatchReply(
        [status for reply in replies for status in reply.statuses],
        sum(reply.accepted for reply in replies),
        sum(reply.duplicate for reply in replies),
        sum(reply.rejected for reply in replies),
        tuple(dict.fromkeys(item_id for reply in replies for item_id in reply.missing_ids)),
    )


def items_together(replies: Sequence[ItemBatchReply]) -> ItemBatchReply:
    """One reply to all batches: `line` counts through them."""
    statuses = [status for reply in replies for status in reply.statuses]
    return ItemBatchReply(
        [msgspec.structs.replace(status, line=line) for line, status in enumerate(statuses)],
        sum(reply.accepted for reply in replies),
        sum(reply.deleted for reply in replies),
        sum(reply.rejected for reply in replies),
        replies[-1].version,
    )
