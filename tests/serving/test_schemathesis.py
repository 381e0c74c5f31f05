"""The service against its own document, with requests that are generated from it: good ones, bad ones, and those at
the edges. `--schemathesis-cases 5000` generates more of them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.python.asgi import shutdown_lifespans

from serving.app import api_document, create_app
from tests.serving.world import FlakyStore, Shelf, opener, settings

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
CHECKS: dict[str, Any] = {
    # Filters, tokens, pictures and vectors have rules that a schema cannot say; tests of their own hold them.
    "positive_data_acceptance": {"enabled": False},
    # A trace is kept for a while, and there is none of a request that was only checked.
    "ensure_resource_availability": {"enabled": False},
}
# They judge each of their lines alone, and say so with 200 or 202.
JUDGED_BY_LINE = ("/v1/events:batch", "/v1/items:batch")
PER_OPERATION = 10
JSON = "application/json"


@schemathesis.serializer("application/x-ndjson")
def one_line(context: Any, value: Any) -> bytes:
    """A body of one line, which is what the document describes."""
    return json.dumps(value).encode()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    yield create_app(settings(tmp_path), open_service=opener(FlakyStore(), Shelf()))
    shutdown_lifespans()


def rules(seed: int) -> SchemathesisConfig:
    """The edges are the same for every seed: they are visited with the first alone."""
    edges = {"enabled": seed == 0}
    by_line = {"include-path": list(JUDGED_BY_LINE), "checks": {"negative_data_rejection": {"enabled": False}}}
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "generation": {"max-examples": PER_OPERATION if seed == 0 else 5 * PER_OPERATION},
            "phases": {"coverage": edges, "examples": edges},
            "checks": CHECKS,
            "operations": [by_line],
        }
    )


def run(app: FastAPI, seed: int) -> tuple[Counter[int], list[str]]:
    """How often each status was answered, and every fault that was found, with what shows it."""
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=rules(seed))
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            replies = [each.response for each in event.recorder.interactions.values()]
            statuses.update(reply.status_code for reply in replies if reply is not None)
            checks = [check for each in event.recorder.checks.values() for check in each]
            failed = [(check.name, check.failure_info) for check in checks if check.failure_info]
            faults += [f"{name}: {info.failure.message}\n{info.code_sample[:1000]}" for name, info in failed]
        elif isinstance(event, events.NonFatalError):
            faults.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return statuses, faults


def test_no_request_brings_a_server_error_or_a_reply_that_the_document_does_not_know(
    app: FastAPI, request: pytest.FixtureRequest
) -> None:
    wanted = request.config.getoption("--schemathesis-cases")
    statuses: Counter[int] = Counter()
    for seed in count():
        found, faults = run(app, seed)
        statuses += found
        assert not faults, f"seed {seed}: {len(faults)} faults; the first:\n" + "\n\n".join(faults[:5])
        if statuses.total() >= wanted:
            break
    print(f"{statuses.total()} cases: {dict(sorted(statuses.items()))}")
    assert not [status for status in statuses if status >= 500]
    assert {200, 202, 404, 405, 415, 422} <= set(statuses)


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "status_code_conformance": lambda replies: replies.pop("200"),
    "content_type_conformance": lambda replies: replies["200"].update(content={"text/csv": {}}),
    "response_schema_conformance": lambda replies: replies["200"]["content"][JSON].update(schema={"type": "array"}),
    "response_headers_conformance": lambda replies: replies["200"]["headers"].update(
        {"X-Absent": {"required": True, "schema": {"type": "string"}}}
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_document_that_says_something_else_is_caught(app: FastAPI, name: str) -> None:
    document = api_document()
    document["paths"] = {"/healthz": document["paths"]["/healthz"]}
    LIES[name](document["paths"]["/healthz"]["get"]["responses"])
    app.openapi = lambda: document  # type: ignore[method-assign]
    _, faults = run(app, seed=0)
    assert {fault.partition(":")[0] for fault in faults} == {name}
