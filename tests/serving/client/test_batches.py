"""Events and items by the thousand."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client import Client, Event, ItemLine, ItemUpsert, NewEvent
from serving.client.batches import MAX_EVENTS_BYTES, MAX_LINES, event_calls, item_calls
from tests.serving.client.both import Caller

NOW = datetime.now(UTC)


def event(number: int, size: int = 0) -> Event:
    context = {"x": "y" * size} if size else {}
    return Event(f"e{number}", "42", f"a{number % 10}", NOW, context=context)


def test_an_event_gets_an_id_of_its_own_once() -> None:
    first, second = (NewEvent(user_id="42", item_id="a1", occurred_at=NOW) for _ in range(2))
    assert first.event_id != second.event_id
    assert all(first.event_id.encode() in (call.body or b"") for call in [*event_calls([first]), *event_calls([first])])
    assert NewEvent(user_id="42", item_id="a1", occurred_at=NOW, event_id="mine").event_id == "mine"


def test_a_time_without_a_zone_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="no zone"):
        NewEvent(user_id="42", item_id="a1", occurred_at=datetime(2026, 5, 1))  # noqa: DTZ001


@given(st.lists(st.integers(0, 400_000), max_size=9), st.integers(0, 2 * MAX_LINES + 1))
def test_every_event_is_sent_once_in_order_in_batches_that_the_service_takes(sizes: list[int], more: int) -> None:
    events = [event(number, size) for number, size in enumerate([*sizes, *[0] * more])]
    bodies = [call.body or b"" for call in event_calls(events)]
    batches = [json.loads(body)["events"] for body in bodies]
    assert [each["event_id"] for batch in batches for each in batch] == [each.event_id for each in events]
    assert all(len(batch) <= MAX_LINES for batch in batches)
    assert all(len(body) <= MAX_EVENTS_BYTES for body in bodies)


def test_an_event_that_is_too_large_goes_alone() -> None:
    bodies = [call.body or b"" for call in event_calls([event(0), event(1, MAX_EVENTS_BYTES), event(2)])]
    assert [len(json.loads(body)["events"]) for body in bodies] == [1, 1, 1]


def test_thousands_of_events_come_back_as_one_reply_in_order(url: str, call: Caller) -> None:
    events = [event(number) for number in range(2500)]
    events[1500] = Event("late", "42", "nobody knows", datetime(1960, 1, 1, tzinfo=UTC))
    reply = call(url, "send_events", iter(events))
    assert (reply.accepted, reply.rejected, reply.duplicate) == (2499, 1, 0)
    assert [each.event_id for each in reply.statuses] == [each.event_id for each in events]
    assert reply.statuses[1500].field == "/occurred_at"
    assert call(url, "send_events", events[:3]).duplicate == 3


def test_thousands_of_items_come_back_as_one_reply_with_their_lines(url: str, call: Caller) -> None:
    items: list[ItemUpsert] = [ItemUpsert(f"new {number}", price=number) for number in range(1200)]
    items[1100] = ItemLine("a1", delete=True)
    items[1101] = ItemUpsert("a2", price=-1.0)
    reply = call(url, "upsert_items", items)
    assert (reply.accepted, reply.deleted, reply.rejected) == (1198, 1, 1)
    assert [each.line for each in reply.statuses] == list(range(1200))
    assert reply.statuses[1101].status == "rejected"


def test_a_batch_without_end_is_taken_as_it_comes() -> None:
    calls = item_calls(ItemUpsert(f"new {number}") for number in iter(int, 1))
    assert next(calls).body is not None


def test_a_picture_goes_with_its_item(url: str) -> None:
    from serving.client import picture

    with Client(url) as client:
        reply = client.upsert_item(ItemUpsert("new", image_base64=picture(b"PICTURE alpha")))
    assert (reply.modalities, reply.recommendable) == (("image",), True)
