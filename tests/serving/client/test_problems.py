"""What the service refuses comes as an error of its own kind, with all that the reply says."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import pytest

from serving.client import (
    Client,
    Forbidden,
    Invalid,
    NotFound,
    RecsysProblem,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)
from serving.client.retries import NEVER
from serving.client.sending import Manner
from tests.serving.client.both import Caller

Serve = Callable[..., str]
ONCE = Manner(retries=NEVER)


def test_a_wrong_field_is_named(url: str, call: Caller) -> None:
    with pytest.raises(Invalid, match="limit") as raised:
        call(url, "recommendations", user_id="42", limit=0)
    problem = raised.value
    assert (problem.status, problem.field, problem.type) == (422, "/limit", "urn:recsys:problem:invalid-request")
    assert problem.request_id in str(problem)
    assert len(problem.request_id) == 32


def test_a_field_that_does_not_exist_is_refused_here(url: str) -> None:
    with Client(url) as client, pytest.raises(TypeError, match="lmit"):
        client.recommendations(lmit=3)  # type: ignore[call-arg]


def test_a_trace_that_is_not_kept_is_not_found(url: str, call: Caller) -> None:
    with pytest.raises(NotFound, match="not kept"):
        call(url, "trace", "none")
    with pytest.raises(NotFound):
        call(url, "trace", "a/b?c#d")


def test_what_is_too_large_is_told_so(url: str, call: Caller) -> None:
    with pytest.raises(TooLarge, match=r"at most|larger than"):
        call(url, "rank", ["a1"], context={"x": "y" * 2_000_000})


@pytest.mark.parametrize("given", [{}, {"text": "alpha", "item_id": "a1"}])
def test_a_search_has_exactly_one_thing_to_search_with(url: str, call: Caller, given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        call(url, "search", **given)


def test_keys_and_their_scopes_and_rates_are_told_apart(serve_at: Serve, call: Caller) -> None:
    digest = sha256(b"secret").hexdigest()
    key = {"name": "shop", "sha256": digest, "scopes": ["read"], "rate_per_s": 0.001, "burst": 1}
    url = serve_at(api_keys=[key])
    for wrong in (None, "other"):
        with pytest.raises(Unauthorized):
            call(url, "popular", key=wrong, manner=ONCE)
    with pytest.raises(Forbidden, match="admin"):
        call(url, "delete_items", ["a1"], key="secret", manner=ONCE)
    assert call(url, "popular", key="secret", manner=ONCE).items
    with pytest.raises(TooManyRequests) as raised:
        call(url, "popular", key="secret", manner=ONCE)
    assert raised.value.retry_after_s is not None
    assert "secret" not in repr(raised.value)


def test_every_kind_is_a_problem() -> None:
    assert {Forbidden, Invalid, NotFound, TooLarge, TooManyRequests, Unauthorized} <= set(
        RecsysProblem.__subclasses__()
    )
