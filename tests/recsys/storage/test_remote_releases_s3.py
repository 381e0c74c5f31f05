"""The release store over a server that speaks S3: what a poll costs, and servers that differ from the original."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import EnvironmentProblem, PublishedMeanwhile
from tests.worlds.release_stores import NUMBERS, Place, put, release, s3_server


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch) as options:
        yield options


@pytest.fixture
def place(options: dict[str, Any], tmp_path: Path) -> Place:
    return Place(f"s3://releases/alone-{next(NUMBERS)}", tmp_path, options)


def asked(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Method of each request, as the server logs them; in colours where it answered 404."""
    found = (re.search(r"(GET|HEAD|PUT|POST) /", line) for line in caplog.messages)
    return [match[1] for match in found if match]


def test_a_poll_costs_one_request_and_a_release_one_for_each_file(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publisher, store = place.remote("publisher"), place.remote("b")
    files, manifest = release(tmp_path, **{f"file{number}": str(number) for number in range(6)})
    publisher.put(files, manifest)
    publisher.publish(manifest.release_id)
    assert store.current() == manifest.release_id
    with caplog.at_level("INFO", logger="werkzeug"):
        caplog.clear()
        for _ in range(3):
            store.current()
        assert asked(caplog) == ["GET"] * 3
        caplog.clear()
        for name in files:
            store.open(store.manifest(manifest.release_id), name)
        assert asked(caplog) == ["GET"] * (1 + 6)


def test_a_large_file_is_pulled_in_parts_and_told_of(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.storage.remote_releases._SAY_EVERY_S", 0.0)
    files, manifest = release(tmp_path, vectors="0123456789abcdef" * (8 << 16))
    place.remote("publisher").put(files, manifest)
    told: list[tuple[int, int]] = []
    store = place.remote("b", on_transfer=lambda each: told.append((each.done_bytes, each.size_bytes)))
    assert store.open(manifest, "vectors").stat().st_size == 8 << 20
    assert told == sorted(told)
    assert told[-1] == (8 << 20, 8 << 20)


def test_a_refusal_without_its_condition_is_understood(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers other than the original say 412 and not which condition did not hold."""
    responses = pytest.importorskip("moto.s3.responses")
    real = responses.PreconditionFailed
    monkeypatch.setattr(responses, "PreconditionFailed", lambda _: real("something"))
    one, other = place.remote("a"), place.remote("b")
    first, second = (put(one, tmp_path, index=text) for text in ("1", "2"))
    one.publish(first)
    latest = other._pointers.listed()
    one.publish(second)
    assert other._pointers.follow(latest, first, first) is False
    with pytest.raises(PublishedMeanwhile):
        other.publish(first, expected=first)


def test_a_server_that_ignores_the_condition_is_refused(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = pytest.importorskip("moto.s3.responses")
    real = responses.S3Response.put_object

    def put_object(response: Any) -> Any:
        response.headers = {name: each for name, each in response.headers.items() if name.lower() != "if-none-match"}
        return real(response)

    monkeypatch.setattr(responses.S3Response, "put_object", put_object)
    store = place.remote()
    release_id = put(store, tmp_path, index="1")
    with pytest.raises(EnvironmentProblem, match="If-None-Match"):
        store.publish(release_id)
    assert place.remote("b").current() is None
