from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.asking import event, recommend, refused, send
from tests.serving.world import FlakyStore


def statuses(reply: dict[str, Any]) -> list[str]:
    return [each["status"] for each in reply["statuses"]]


def test_an_event_sent_twice_is_a_duplicate(client: TestClient) -> None:
    first, second = event("u", "a1"), event("u", "a2")
    assert statuses(send(client, first, second, first)) == ["accepted", "accepted", "duplicate"]
    reply = send(client, second)
    assert statuses(reply) == ["duplicate"]
    assert (reply["accepted"], reply["duplicate"], reply["rejected"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"occurred_at": 1700000000}, "/occurred_at"),
        ({"occurred_at": "2026-05-01T12:00:00"}, "/occurred_at"),
        ({"occurred_at": "yesterday"}, "/occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+23:59"}, "/occurred_at"),
        ({"occurred_at": "9999-12-31T23:59:59-23:59"}, "/occurred_at"),
        ({"event_id": ""}, "/event_id"),
        ({"event_id": None}, "/event_id"),
        ({"user_id": None}, "/user_id"),
        ({"item_id": 5}, "/item_id"),
        ({"position": -1}, "/position"),
        ({"event_type": "impression"}, "/event_type"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_a_bad_event_is_rejected_alone(client: TestClient, fields: dict[str, Any], field: str) -> None:
    reply = send(client, event("u", "a1"), event("u", "a2", **fields), event("u", "a3"))
    assert statuses(reply) == ["accepted", "rejected", "accepted"]
    assert reply["statuses"][1]["field"] == field
    assert reply["statuses"][1]["reason"]


def test_an_event_without_an_id_cannot_be_told_from_its_replay(client: TestClient) -> None:
    nameless = event("u", "a1")
    del nameless["event_id"]
    reply = send(client, nameless)
    assert statuses(reply) == ["rejected"]
    assert "event_id" in reply["statuses"][0]["reason"]


def test_events_that_are_no_objects_are_rejected_alone(client: TestClient) -> None:
    body: Any = ["text", 5, None, [], event("u", "a1")]
    assert statuses(send(client, *body)) == ["rejected"] * 4 + ["accepted"]


def test_an_event_from_a_fast_clock_is_taken_and_one_of_tomorrow_is_not(client: TestClient) -> None:
    ahead = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    reply = send(client, event("u", "a1", occurred_at=ahead), event("u", "a2", occurred_at=tomorrow))
    assert statuses(reply) == ["accepted", "rejected"]


def test_unknown_items_are_taken_and_named(client: TestClient) -> None:
    reply = send(client, event("u", "not yet here"), event("u", "a1"), event("u", "not yet here"))
    assert statuses(reply) == ["accepted"] * 3
    assert reply["missing_ids"] == ["not yet here"]


def test_everything_that_was_sent_is_in_the_log(client: TestClient, store: FlakyStore) -> None:
    recommendation_id = recommend(client, user_id="u")["recommendation_id"]
    sent = event(
        "u",
        "a1",
        event_type="click",
        value=2.5,
        recommendation_id=recommendation_id,
        position=3,
        context={"page": "home"},
    )
    sent["occurred_at"] = "2026-05-01T14:00:00+02:00"
    send(client, sent)
    ((_, logged),) = list(store.read())
    assert logged.occurred_at == datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert (logged.event_type, logged.value, logged.position, logged.context) == ("click", 2.5, 3, {"page": "home"})
    assert logged.recommendation_id == recommendation_id


def test_a_thousand_events_are_taken_and_one_more_is_too_many(client: TestClient) -> None:
    events = [event("u", f"item {number}") for number in range(1001)]
    assert send(client, *events[:1000])["accepted"] == 1000
    problem = refused(client.post("/v1/events:batch", json={"events": events}), 413)
    assert "1000" in problem["detail"]


def test_a_batch_of_more_than_a_mebibyte_is_too_large(client: TestClient, store: FlakyStore) -> None:
    events = [event("u", "a1", context={"text": "x" * 2000}) for _ in range(600)]
    refused(client.post("/v1/events:batch", json={"events": events}), 413)
    assert list(store.read()) == []


def test_when_the_store_is_down_nothing_is_written_and_the_sender_may_try_again(
    client: TestClient, store: FlakyStore
) -> None:
    batch = {"events": [event("u", "a1"), event("u", "a2")]}
    store.up = False
    response = client.post("/v1/events:batch", json=batch)
    problem = refused(response, 503)
    assert int(response.headers["retry-after"]) >= 1
    assert "10.1.2.3" not in str(problem)
    store.up = True
    assert list(store.read()) == []
    assert statuses(send(client, *batch["events"])) == ["accepted", "accepted"]


@pytest.mark.parametrize("body", [{}, {"events": {}}, {"events": [], "more": 1}, []])
def test_what_is_no_batch_is_refused(client: TestClient, body: Any) -> None:
    refused(client.post("/v1/events:batch", json=body), 422)


def test_an_empty_batch_is_taken(client: TestClient) -> None:
    assert send(client)["statuses"] == []


@pytest.mark.parametrize("broken", [r'"\ud83d"', r'{"\udc00": 1}', "NaN", "-Infinity", "1e999"])
def test_what_only_some_json_parsers_take_costs_one_event_and_not_the_batch(client: TestClient, broken: str) -> None:
    events = [json.dumps(event("u", f"a{number}", context={"query": "BROKEN"})) for number in range(3)]
    events[1] = events[1].replace('"BROKEN"', broken)
    body = f'{{"events": [{", ".join(events)}]}}'
    reply = client.post("/v1/events:batch", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 202
    assert statuses(reply.json()) == ["accepted", "rejected", "accepted"]


@pytest.mark.parametrize(
    "body", [r'{"events": {"\ud800": 1}}', r'{"events": "\ud800"}', r'{"events": [], "a": NaN}', "NaN"]
)
def test_what_is_no_batch_to_any_parser_is_refused_whole(client: TestClient, body: str) -> None:
    refused(client.post("/v1/events:batch", content=body, headers={"content-type": "application/json"}), 422)


def test_an_event_nested_so_deep_that_a_job_could_not_read_the_log_is_rejected(
    client: TestClient, store: FlakyStore
) -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}
    reply = send(client, event("u", "a1"), event("u", "a2", context=deep), event("u", "a3", context={"a": {"b": []}}))
    assert statuses(reply) == ["accepted", "rejected", "accepted"]
    assert "nested" in reply["statuses"][1]["reason"]
    assert len(list(store.read())) == 2
