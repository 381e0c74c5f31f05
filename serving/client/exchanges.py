"""From a call to an HTTP request, and from an HTTP reply or its absence to a value or an error: what the client with
and the one without `await` have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

import httpx
import msgspec

from serving.client.calls import Call
from serving.client.errors import BY_STATUS, RecsysProblem, TimedOut, UnexpectedReply, Unreachable
from serving.schemas import Problem

R = TypeVar("R")
REQUEST_ID = "X-Request-Id"
RETRIED = frozenset({429, 503})
# Idle connections are dropped before the service drops them (after 5 s): a request is not sent into a closing one.
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=3.0)
_PROBLEM = msgspec.json.Decoder(Problem)


def headers_for(api_key: str | None) -> dict[str, str]:
    """What every request of a client carries."""
    headers = {"User-Agent": "recsys-client/1", "Accept": "application/json, application/problem+json"}
    return headers if api_key is None else {**headers, "Authorization": f"Bearer {api_key}"}


def headers_of(call: Call[R], request_id: str) -> dict[str, str]:
    """What one request carries besides."""
    named = {REQUEST_ID: request_id}
    return named if call.body is None else {**named, "Content-Type": call.media_type}


def reply_to(call: Call[R], response: httpx.Response, request_id: str, now: datetime) -> R:
    """The value of a reply.

    Raises:
        RecsysProblem: the service refused.
        UnexpectedReply: it is no reply of this service, or one to another request.
    """
    answered = response.headers.get(REQUEST_ID, "")
    if answered not in (request_id, ""):
        raise UnexpectedReply(f"the reply is to request {answered[:128]}, not {request_id}")
    if response.status_code >= 400:
        raise _problem(response, answered, now)
    if not response.is_success or not answered:
        raise UnexpectedReply(f"{response.status_code} from {response.url.host} is no reply of the service")
    try:
        return call.read(response.content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnexpectedReply(f"the reply cannot be read: {error} [request {request_id}]") from None


def unreachable(error: httpx.TransportError, host: str) -> Unreachable:
    """What a broken connection means."""
    message = f"no reply from {host}: {str(error) or type(error).__name__}"
    kind = TimedOut if isinstance(error, httpx.TimeoutException) else Unreachable
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return kind(message, was_sent=False, retry_after_s=0.0)
    return kind(message, was_sent=not isinstance(error, httpx.PoolTimeout))


def _problem(response: httpx.Response, request_id: str, now: datetime) -> RecsysProblem:
    """Of our own, or of what stands between: proxies say no in their own words."""
    try:
        problem = _PROBLEM.decode(response.content)
    except msgspec.MsgspecError:
        problem = Problem("about:blank", _phrase(response.status_code), response.status_code, response.text[:200])
    problem.status = response.status_code
    after = _retry_after_s(response.headers, now) if response.status_code in RETRIED else None
    return BY_STATUS.get(response.status_code, RecsysProblem)(problem, request_id, after)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown"


def _retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds, also where a date is given (RFC 9110, 10.2.3); None where it says neither."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max((moment.astimezone(UTC) - now).total_seconds(), 0.0)
