from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from recsys.errors import TooLarge
from serving import bodies

PAUSE_S = 0.02


def request(parts: Iterator[bytes], *, ends: bool = False, **headers: str) -> Request:
    """A request whose parts come `PAUSE_S` apart; after the last one it ends, or its sender falls silent."""

    async def receive() -> dict[str, Any]:
        for part in parts:
            await asyncio.sleep(PAUSE_S)
            return {"type": "http.request", "body": part, "more_body": True}
        if ends:
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(60)
        raise AssertionError("nobody waits that long")

    named = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


def read(asked: Request, max_bytes: int = 1000) -> bytes:
    return asyncio.run(asyncio.wait_for(bodies.read_body(asked, max_bytes), timeout=20))


def test_a_sender_that_falls_silent_is_told_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    with pytest.raises(HTTPException) as raised:
        read(request(iter([b'{"user'])))
    assert raised.value.status_code == 408
    assert raised.value.headers == {"Connection": "close"}


def test_a_sender_that_drips_is_let_go_however_long_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    with pytest.raises(HTTPException) as raised:
        read(request(iter(lambda: b" ", b"")))
    assert raised.value.status_code == 408


def test_a_slow_line_that_keeps_sending_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 5 * PAUSE_S)
    monkeypatch.setattr(bodies, "BODY_BYTES_A_S", 1000)
    # Ten pauses are twice BODY_S, but each part of 1,000 bytes buys a second more.
    assert len(read(request(iter([b"x" * 1000] * 10), ends=True), max_bytes=10_000)) == 10_000


def test_what_is_announced_too_large_and_never_sent_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.1)
    with pytest.raises((TooLarge, HTTPException)):
        read(request(iter([b"x"]), content_length="5000000"))
