"""What tests ask the service, in few words."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any

from starlette.testclient import TestClient

NUMBERS = count()


def now() -> str:
    return datetime.now(UTC).isoformat()


def event(user: str, item: str, **fields: Any) -> dict[str, Any]:
    event_id = f"event-{next(NUMBERS)}"
    return {"event_id": event_id, "user_id": user, "item_id": item, "occurred_at": now(), **fields}


def send(client: TestClient, *events: dict[str, Any]) -> dict[str, Any]:
    """The reply to a batch that is taken."""
    response = client.post("/v1/events:batch", json={"events": list(events)})
    assert response.status_code == 202, response.text
    return dict(response.json())


def recommend(client: TestClient, **body: Any) -> dict[str, Any]:
    """The reply to a request that is answered."""
    response = client.post("/v1/recommendations", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def ids(reply: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in reply["items"]]


def refused(response: Any, status: int) -> dict[str, Any]:
    """The problem of a refusal that looks as every refusal does."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"]
    problem = dict(response.json())
    assert problem["status"] == status
    assert problem["type"].startswith("urn:recsys:problem:")
    return problem


def soon(holds: Callable[[], Any], within_s: float = 5.0) -> None:
    """Wait until it holds; fails when it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
