"""What a call may raise, in one tree.

ClientError
├── Unreachable           no reply came: the service cannot be reached, or the connection broke
│   └── TimedOut          no reply came in time; whether the service did what was asked is not known
├── UnexpectedReply       what came is no reply of this service, or one to another request
└── RecsysProblem         the service refused, and says why (RFC 9457)
    ├── Unauthorized      401: no API key that it knows
    ├── Forbidden         403: the key lacks the scope
    ├── NotFound          404
    ├── TooLarge          413: send it in several calls
    ├── Invalid           422: `field` is wrong
    ├── TooManyRequests   429: come back after `retry_after_s`
    └── Unavailable       503: a part of the service does not answer; come back after `retry_after_s`
"""

from __future__ import annotations

from serving.schemas import Problem


class ClientError(Exception):
    """Root of the tree.

    Attributes:
        retry_after_s: after how many seconds the same call is worth making again; None: it is not known to be.
    """

    retry_after_s: float | None = None


class Unreachable(ClientError):
    """No reply came. `was_sent`: the request may have reached the service."""

    def __init__(self, message: str, *, was_sent: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        self.retry_after_s = retry_after_s


class TimedOut(Unreachable):
    """No reply came in time."""


class UnexpectedReply(ClientError):
    """What came is no reply of this service, or one to another request: look at what stands between."""


class RecsysProblem(ClientError):
    """The service refused.

    Attributes:
        status, type, title, detail, field: as in the reply; `type` is a URN that names the kind of problem, `field` a
            JSON pointer to the part of the request that is at fault, or "".
        request_id: finds the request in the service's log; "" where the reply named none.
        retry_after_s: what the reply says, else None.
    """

    def __init__(self, problem: Problem, request_id: str = "", retry_after_s: float | None = None) -> None:
        where = f" (at {problem.field})" if problem.field else ""
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}{where} [request {request_id or '?'}]")
        self.status = problem.status
        self.type = problem.type
        self.title = problem.title
        self.detail = problem.detail
        self.field = problem.field
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class Unauthorized(RecsysProblem):
    """401: no API key that the service knows."""


class Forbidden(RecsysProblem):
    """403: the key lacks the scope that the call needs."""


class NotFound(RecsysProblem):
    """404: what was asked for is not there."""


class TooLarge(RecsysProblem):
    """413: more than the service's limit."""


class Invalid(RecsysProblem):
    """422: a field is wrong."""


class TooManyRequests(RecsysProblem):
    """429: the service is full, or the key has used up its rate."""


class Unavailable(RecsysProblem):
    """503: a part of the service does not answer."""


BY_STATUS: dict[int, type[RecsysProblem]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    422: Invalid,
    429: TooManyRequests,
    503: Unavailable,
}
