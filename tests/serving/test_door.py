"""What is turned away by its bytes alone, and what goes the usual way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from httptools import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.app import OPERATIONS
from serving.door import TURN_AWAY, Door, TurnAway
from serving.telemetry import Telemetry
from serving.work import Admission

PLAIN = [each for each in OPERATIONS if "{" not in each.path]
BODY = b'{"user_id":"u"}'
Ask = Callable[[bytes], "asyncio.Future[bytes]"]


def lanes(n_answers: int = 0, n_slow: int = 0) -> dict[str, Admission]:
    admissions = {"answers": Admission(1), "slow": Admission(1)}
    admissions["answers"].n, admissions["slow"].n = n_answers, n_slow
    return admissions


def door(n_answers: int = 1, n_slow: int = 1) -> TurnAway:
    return TurnAway(PLAIN, lanes(n_answers, n_slow), Telemetry())


def request(
    line: bytes = b"POST /v1/recommendations HTTP/1.1", *headers: bytes, body: bytes = BODY, length: int | None = None
) -> bytes:
    mine = [b"Host: here", b"Content-Length: %d" % (len(body) if length is None else length), *headers]
    return b"\r\n".join([line, *mine, b"", body])


def parsed(reply: bytes | None) -> tuple[bytes, dict[bytes, bytes], bytes]:
    assert reply is not None
    head, _, body = reply.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    return line, dict(header.split(b": ", 1) for header in headers), body


def test_a_full_lane_answers_429_with_a_problem_and_the_id_of_the_request() -> None:
    reply = door()(request(b"POST /v1/recommendations HTTP/1.1", b"X-Request-ID: mine-1"), [(b"date", b"today")])
    line, headers, body = parsed(reply)
    assert line == b"HTTP/1.1 429 Too Many Requests"
    assert headers[b"x-request-id"] == b"mine-1"
    assert headers[b"date"] == b"today"
    assert int(headers[b"retry-after"]) >= 1
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(body)["type"] == "urn:recsys:problem:overloaded"


def test_the_name_of_a_header_is_the_same_in_any_case() -> None:
    whole = request(b"POST /v1/recommendations HTTP/1.1", b"X-REQUEST-ID:mine-2 ")
    _, headers, _ = parsed(door()(whole.replace(b"Content-Length", b"CONTENT-LENGTH"), []))
    assert headers[b"x-request-id"] == b"mine-2"


def test_a_request_without_a_usable_id_is_given_one() -> None:
    for more in ((), (b"X-Request-Id: no spaces please",)):
        _, headers, _ = parsed(door()(request(b"POST /v1/recommendations HTTP/1.1", *more), []))
        assert len(headers[b"x-request-id"]) == 32


@pytest.mark.parametrize("operation", PLAIN, ids=lambda each: f"{each.method} {each.path}")
def test_each_operation_is_judged_by_its_own_lane(operation) -> None:  # type: ignore[no-untyped-def]
    whole = request(f"{operation.method} {operation.path}?limit=3 HTTP/1.1".encode())
    assert (door(1, 0)(whole, []) is not None) == (operation.lane == "answers")
    assert (door(0, 1)(whole, []) is not None) == (operation.lane == "slow")
    assert door(0, 0)(whole, []) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        request()[:-1],
        request() + b"x",
        request() + request(),
        request(length=0),
        request(b"POST /v1/elsewhere HTTP/1.1"),
        request(b"POST /v1/recommendations HTTP/1.0"),
        request(b"POST  /v1/recommendations HTTP/1.1"),
        request(b"GET /v1/recommendations HTTP/1.1"),
        request(b"POST /v1/recommendations HTTP/1.1", b"Content-Length: 15"),
        request(b"POST /v1/recommendations HTTP/1.1", b"Transfer-Encoding: chunked"),
        request(b"POST /v1/recommendations HTTP/1.1", b"Expect: 100-continue"),
        request(b"POST /v1/recommendations HTTP/1.1", b"Connection: close"),
        request(b"POST /v1/recommendations HTTP/1.1", b"Connection: keep-alive, Upgrade"),
        request().replace(b"Content-Length:", b"Content-Length :"),
        request().replace(b"Content-Length: ", b"Content-Length: +"),
        request().replace(b"Content-Length", b"X-Content-Length"),
        request().replace(b"\r\nContent", b"\nContent"),
        request().replace(b"\r\nContent", b"\rContent"),
        request().replace(b"\r\nContent", b"\r\n Content"),
        request().replace(b"here", b"he\x00re"),
        request(b"POST /v1/recommendations HTTP/1.1", b"no colon"),
        request(b"POST /v1/recommendations HTTP/1.1", b": no name"),
        request(b"POST /v1/recommendations HTTP/1.1", b"Proxy-Connection: close"),
        request(b"POST /v1/recommendations HTTP/1.1", b"X: y\nTransfer-Encoding: chunked"),
        request(b"POST /v1/recommendations?a=\x7f HTTP/1.1"),
    ],
)
def test_what_is_not_one_whole_plain_request_is_left_to_the_parser(data: bytes) -> None:
    assert door()(data, []) is None


@pytest.mark.parametrize(
    "header",
    [
        b"Connection: keep-alive",
        b"connection:keep-alive",
        b"Proxy-Connection: keep-alive ",
        b"Accept: */*",
        b"X-Empty:",
    ],
)
def test_usual_headers_are_no_reason_to_parse(header: bytes) -> None:
    assert door()(request(b"POST /v1/recommendations HTTP/1.1", header), []) is not None


class Parsed:
    """What the parser makes of bytes: messages begun and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_message_complete(self) -> None:
        self.ended += 1


BITS = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\x00", b"\xe9", b"?", b"HTTP/1.1"),
        *(b"Content-Length: 3\r\n", b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"X-Request-Id: a\r\n", b"Expect: 100-continue\r\n"),
    ]
)


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 4), st.one_of(BITS, st.binary(max_size=3))), max_size=3))
def test_what_is_turned_away_is_to_the_parser_one_whole_request_after_which_the_connection_stays(
    changes: list[tuple[int, int, bytes]],
) -> None:
    data = request(b"POST /v1/recommendations HTTP/1.1", b"Connection: keep-alive")
    for at, n_gone, new in changes:
        data = data[:at] + new + data[at + n_gone :]
    if door()(data, []) is not None:
        parsed = Parsed()
        parser = HttpRequestParser(parsed)
        parser.feed_data(data)
        assert (parsed.begun, parsed.ended) == (1, 1)
        assert parser.should_keep_alive()
        assert not parser.should_upgrade()


@given(st.binary(max_size=200), st.integers(0, 200))
def test_no_part_of_a_request_with_more_or_less_of_it_is_judged(more: bytes, cut: int) -> None:
    whole = request()
    if more:
        assert door()(whole + more, []) is None
    if cut < len(whole):
        assert door()(whole[:cut], []) is None


@asynccontextmanager
async def listening(turn_away: TurnAway) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, list[str]]]:
    """A connection to an application behind the door, and the paths that reached the application."""
    reached: list[str] = []

    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        reached.append(scope["path"])
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config, state = Config(app, lifespan="off", log_level="critical", timeout_keep_alive=1), ServerState()
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Door(config, state, {TURN_AWAY: turn_away}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer, reached
    finally:
        writer.close()
        server.close()


async def status_of(reader: asyncio.StreamReader) -> int:
    line, headers, _ = parsed(await reader.readuntil(b"\r\n\r\n"))
    await reader.readexactly(int(headers[b"content-length"]))
    return int(line.split(b" ")[1])


def test_one_connection_is_turned_away_and_answered_as_the_lane_fills_and_empties() -> None:
    admissions = lanes(1)

    async def talk() -> None:
        async with listening(TurnAway(PLAIN, admissions, Telemetry())) as (reader, writer, reached):
            for full in (True, False, True, True, False):
                admissions["answers"].n = int(full)
                writer.write(request())
                assert await status_of(reader) == (429 if full else 200)
            assert reached == ["/v1/recommendations"] * 2

    asyncio.run(asyncio.wait_for(talk(), 20))


def test_a_request_in_pieces_is_parsed_even_where_a_piece_looks_like_a_request() -> None:
    async def talk() -> None:
        async with listening(door()) as (reader, writer, reached):
            writer.write(request(body=request()).removesuffix(request()))
            await asyncio.sleep(0.05)
            writer.write(request())  # the body of the first
            assert await status_of(reader) == 200
            assert reached == ["/v1/recommendations"]
            writer.write(request())
            assert await status_of(reader) == 429

    asyncio.run(asyncio.wait_for(talk(), 20))


def test_a_connection_that_is_turned_away_again_and_again_stays_open() -> None:
    """Each refusal is a sign of life: the time limit of an idle connection begins anew."""
    admissions = lanes(0)

    async def talk() -> None:
        async with listening(TurnAway(PLAIN, admissions, Telemetry())) as (reader, writer, _):
            writer.write(request())
            assert await status_of(reader) == 200
            admissions["answers"].n = 1
            for _ in range(5):
                await asyncio.sleep(0.4)
                writer.write(request())
                assert await status_of(reader) == 429
            await asyncio.sleep(1.5)
            assert reader.at_eof()

    asyncio.run(asyncio.wait_for(talk(), 20))
