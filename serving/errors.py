"""Errors as problem+json (RFC 9457): every reply that is not a success looks alike, and says what to do."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from recsys.errors import ArtifactError, EncoderUnavailable, InvalidRequest, Overloaded, RequestError, StoreUnavailable
from serving.schemas import Problem
from serving.telemetry import log

PROBLEM_JSON = "application/problem+json"
STORE_RETRY_S = 1


def problem(
    status: int, detail: str, *, kind: str = "", field: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """A problem+json reply; `kind` (default: the status in words) becomes its type."""
    title = HTTPStatus(status).phrase
    name = kind or title.lower().replace(" ", "-")
    body = Problem(f"urn:recsys:problem:{name}", title, status, detail, field)
    return Response(msgspec.json.encode(body), status, dict(headers or {}), PROBLEM_JSON)


def of_request_error(error: RequestError) -> Response:
    """The reply to one of our own refusals."""
    retry = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Overloaded) else None
    return problem(error.status, str(error), kind=_kind_of(error), field=error.field, headers=retry)


def of_store_error(error: StoreUnavailable) -> Response:
    """503; the store's own words stay in the log, for they may name hosts."""
    detail = "the store does not answer; send the same request again, what was written already is not written twice"
    return problem(503, detail, kind="store-unavailable", headers={"Retry-After": str(STORE_RETRY_S)})


def of_encoder_error(error: EncoderUnavailable | ArtifactError) -> Response:
    """503: words, pictures and sounds cannot be encoded now; all else goes on. What is wrong with a release's files
    stays in the log, for it names paths."""
    detail = str(error) if isinstance(error, EncoderUnavailable) else "the release's encoders cannot be used"
    return problem(503, detail, kind="encoder-unavailable", headers={"Retry-After": str(STORE_RETRY_S)})


def of_bug() -> Response:
    """500, the last resort: nothing of the cause leaves the service."""
    return problem(500, "the service failed; the X-Request-Id of this reply finds the cause in its log")


def reply_to(error: Exception) -> Response | None:
    """The reply to an error that is not our bug; None for one that is."""
    if isinstance(error, RequestError):
        return of_request_error(error)
    if isinstance(error, StoreUnavailable):
        return of_store_error(error)
    if isinstance(error, EncoderUnavailable | ArtifactError):
        if isinstance(error, ArtifactError):
            log(logging.ERROR, "the release's encoders cannot be used", why=f"{type(error).__name__}: {error}")
        return of_encoder_error(error)
    if isinstance(error, HTTPException):
        details = {404: "there is nothing at this address; /openapi.json lists what there is"}
        details[405] = "this address does not take that method"
        return problem(error.status_code, details.get(error.status_code, error.detail), headers=error.headers)
    return None


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem+json reply."""

    async def handled(request: Request, error: Exception) -> Response:
        reply = reply_to(error)
        assert reply is not None
        return reply

    for kind in (RequestError, StoreUnavailable, EncoderUnavailable, ArtifactError, HTTPException):
        app.add_exception_handler(kind, handled)


def in_our_words(error: Exception) -> InvalidRequest:
    """msgspec's refusal of a body as ours, its path (`$.items[0].price`) as a JSON pointer (`/items/0/price`)."""
    if isinstance(error, RecursionError):
        return InvalidRequest("the body is nested too deeply")
    words, _, path = str(error).partition(" - at `")
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", path)
    pointer = "".join(f"/{name or at}" for name, at in steps)
    unknown = re.search(r"unknown field `(.*)`", words)
    if unknown:
        pointer += f"/{unknown[1]}"
    if not isinstance(error, msgspec.ValidationError):
        words = f"the body is not valid JSON: {words}"
    return InvalidRequest(words.replace("Object contains unknown field", "there is no field"), field=pointer)


def _kind_of(error: RequestError) -> str:
    """The name of the error in the tree of `recsys.errors`, dashed: special cases of it are the same to a client."""
    name = next(each.__name__ for each in type(error).__mro__ if each.__module__ == RequestError.__module__)
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()
