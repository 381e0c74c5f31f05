"""When a call is made again, against a server that answers as a script says."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.client import (
    NEVER,
    Manner,
    NewEvent,
    RecsysProblem,
    Retries,
    TimedOut,
    TooManyRequests,
    Unavailable,
    UnexpectedReply,
    Unreachable,
)
from tests.serving.client.both import Caller
from tests.serving.client.stub import MERGED, SLATE, TAKEN, Says, busy, serving
from tests.serving.test_process import free_port

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CALM = Manner(retries=Retries(spread_s=0))
CLICK = NewEvent(user_id="42", item_id="1270", occurred_at=NOW)


@pytest.mark.parametrize("status", [429, 503])
def test_a_read_that_is_told_when_to_come_back_is_made_again_then(call: Caller, status: int) -> None:
    with serving(busy(status, Retry_After="2"), busy(status, Retry_After="3"), Says()) as stub:
        assert call(stub.url, "recommendations", manner=CALM, user_id="42").recommendation_id == "r"
    assert call.waits == [2, 3]
    assert len({headers["x-request-id"] for _, _, headers, _ in stub.asked}) == 1
    assert len({body for *_, body in stub.asked}) == 1


def test_attempts_are_spread_by_the_given_randomness(call: Caller) -> None:
    draws = Random(7)
    expected = [1 + draws.random() * 0.5, 1 + draws.random() * 0.5 * 2]
    manner = Manner(retries=Retries(spread_s=0.5), random=Random(7))
    with serving(busy(Retry_After="1"), busy(Retry_After="1"), Says()) as stub:
        call(stub.url, "trending", manner=manner)
    assert call.waits == pytest.approx(expected)


def test_events_are_sent_again_under_the_same_ids(call: Caller) -> None:
    with serving(busy(Retry_After="1"), Says(202, TAKEN)) as stub:
        call(stub.url, "send_events", [CLICK], manner=CALM)
    assert stub.asked[0][3] == stub.asked[1][3]
    assert CLICK.event_id.encode() in stub.asked[0][3]


@pytest.mark.parametrize(
    ("method", "given_"), [("merge_users", ("a", "b")), ("erase_user", ("a",)), ("ready", ()), ("health", ())]
)
def test_what_must_not_happen_twice_and_what_asks_about_now_is_never_made_again(
    call: Caller, method: str, given_: tuple[str, ...]
) -> None:
    with serving(busy(Retry_After="1"), Says(body=MERGED)) as stub:
        with pytest.raises(Unavailable) as raised:
            call(stub.url, method, *given_, manner=CALM)
    assert raised.value.retry_after_s == 1
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "refusal", [busy(429), busy(503), busy(500, Retry_After="1"), busy(422, Retry_After="1"), busy(408)]
)
def test_a_refusal_that_asks_for_no_second_attempt_gets_none(call: Caller, refusal: Says) -> None:
    with serving(refusal, Says()) as stub:
        with pytest.raises(RecsysProblem) as raised:
            call(stub.url, "recommendations", manner=CALM)
    assert raised.value.retry_after_s is None
    assert len(stub.asked) == 1


def test_attempts_end(call: Caller) -> None:
    with serving(*[busy(429, Retry_After="1")] * 9) as stub:
        with pytest.raises(TooManyRequests) as raised:
            call(stub.url, "popular", manner=Manner(retries=Retries(attempts=4, spread_s=0)))
    assert len(stub.asked) == 4
    assert raised.value.request_id == stub.asked[0][2]["x-request-id"]


def test_nobody_waits_longer_than_the_call_may_take(call: Caller) -> None:
    with serving(busy(Retry_After="60"), Says()) as stub:
        with pytest.raises(Unavailable):
            call(stub.url, "popular", manner=CALM)
    assert call.waits == []


def test_a_time_to_come_back_may_be_a_date(call: Caller) -> None:
    with serving(busy(Retry_After="Fri, 01 May 2026 12:00:04 GMT"), Says()) as stub:
        call(stub.url, "popular", manner=Manner(retries=Retries(spread_s=0), now=lambda: NOW))
    assert call.waits == [4]


def test_a_service_that_is_just_starting_is_waited_for(call: Caller) -> None:
    port = free_port()
    with ExitStack() as stack:
        call.when_waiting = lambda: stack.enter_context(serving(Says(), port=port)) and None
        call(f"http://127.0.0.1:{port}", "recommendations", manner=CALM)
    assert len(call.waits) == 1


def test_a_service_that_is_not_there_is_told_of(call: Caller) -> None:
    with pytest.raises(Unreachable, match=r"no reply from 127\.0\.0\.1") as raised:
        call(f"http://127.0.0.1:{free_port()}", "recommendations", manner=CALM)
    assert not raised.value.was_sent
    assert len(call.waits) == 2


def test_a_reply_that_breaks_off_is_not_asked_for_again(call: Caller) -> None:
    with serving(Says(breaks=True), Says()) as stub:
        with pytest.raises(Unreachable) as raised:
            call(stub.url, "recommendations", manner=CALM)
    assert raised.value.was_sent
    assert len(stub.asked) == 1


def test_a_call_waits_as_long_as_it_is_told_to(call: Caller) -> None:
    answers = threading.Event()
    with serving(Says(waits=answers), Says()) as stub:
        with pytest.raises(TimedOut) as raised:
            call(stub.url, "recommendations", manner=Manner(timeout_s=60), timeout_s=0.05)
        answers.set()
    assert raised.value.was_sent
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "says",
    [
        Says(request_id="of-somebody-else"),
        Says(request_id=None),
        Says(body=b"<html>welcome to the cafe's network</html>"),
        Says(body=SLATE[:-1]),
        Says(302, b"", {"Location": "https://example.org/"}),
    ],
    ids=["of another request", "of no request", "a page", "half", "elsewhere"],
)
def test_what_is_no_reply_to_this_request_is_never_taken_for_one(call: Caller, says: Says) -> None:
    with serving(says) as stub, pytest.raises(UnexpectedReply):
        call(stub.url, "recommendations", manner=Manner(retries=NEVER))


def test_a_proxy_that_refuses_in_its_own_words_is_a_problem_too(call: Caller) -> None:
    with serving(Says(502, b"<html>bad gateway</html>", request_id=None)) as stub:
        with pytest.raises(RecsysProblem, match="bad gateway") as raised:
            call(stub.url, "recommendations")
    assert (raised.value.status, raised.value.type, raised.value.title) == (502, "about:blank", "Bad Gateway")


def test_the_key_and_the_path_of_the_service_are_sent(call: Caller) -> None:
    with serving(Says()) as stub:
        call(stub.url + "/shop/recs/", "similar", "a/b?ü", key="secret", strict_filtering=True, limit=3)
    (method, path, headers, _) = stub.asked[0]
    assert (method, path) == ("GET", "/shop/recs/v1/similar?item_id=a%2Fb%3F%C3%BC&strict_filtering=true&limit=3")
    assert headers["authorization"] == "Bearer secret"


POSSIBLE = st.floats(0, 1e6)


@given(
    st.builds(Retries, attempts=st.integers(1, 9), total_s=POSSIBLE, spread_s=POSSIBLE),
    st.integers(1, 9),
    POSSIBLE,
    st.none() | POSSIBLE,
    st.floats(0, 1, exclude_max=True),
)
def test_no_wait_is_shorter_than_asked_for_or_longer_than_allowed(
    retries: Retries, n_made: int, spent_s: float, retry_after_s: Any, draw: float
) -> None:
    wait_s = retries.wait_s(n_made, spent_s, retry_after_s, draw)
    if wait_s is not None:
        assert n_made < retries.attempts
        assert retry_after_s <= wait_s <= retries.total_s - spent_s + 1e-6
