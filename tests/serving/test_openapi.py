"""The API's document is a file under review: a change of the API is a change of that file.

Rewrite it with: python -m serving.document --write
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from serving.app import OPERATIONS, api_document
from serving.document import FILE, written
from tests.serving.asking import refused

HOW = "the API differs from its document; look at the change, then run: python -m serving.document --write"


def test_the_committed_document_is_what_the_service_says() -> None:
    assert FILE.read_text(encoding="utf-8") == written(api_document()), HOW


def test_the_service_serves_that_document(client: TestClient) -> None:
    assert client.get("/openapi.json").json() == json.loads(Path(FILE).read_text(encoding="utf-8"))


def test_every_example_is_answered(client: TestClient) -> None:
    posts = [operation for operation in OPERATIONS if operation.example is not None]
    assert {each.path for each in posts} == {
        each.path for each in OPERATIONS if each.body is not None and each.media_type == "application/json"
    }
    for operation in posts:
        response = client.post(operation.path, json=operation.example)
        assert response.status_code == operation.status, (operation.path, response.text)


def test_every_reply_names_its_request_and_every_refusal_says_what_the_client_needs_to_know() -> None:
    needed = {"401": "WWW-Authenticate", "403": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
    for methods in api_document()["paths"].values():
        for operation in methods.values():
            for status, reply in operation["responses"].items():
                assert {"X-Request-Id", *([needed[status]] if status in needed else [])} == set(reply["headers"])


@pytest.mark.parametrize("category", ["", "x" * 257])
def test_a_category_keeps_to_the_length_that_the_document_states(client: TestClient, category: str) -> None:
    assert refused(client.get("/v1/popular", params={"category": category}), 422)["field"] == "/category"


def test_every_reference_points_at_a_schema() -> None:
    document = api_document()
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"])
