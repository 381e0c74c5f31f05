"""Which web pages may read our answers from a browser: none, but for the origins that are named in the configuration.

Keys travel in headers that a page must set itself, so credentials (cookies) are never allowed, and no wildcard is.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

RawHeaders = Sequence[tuple[bytes, bytes]]
MAX_AGE_S = 600
METHODS = "GET, POST, PUT, DELETE"
REQUEST_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-Id, traceparent"
REPLY_HEADERS = b"X-Request-Id, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"


class Cors:
    """The rules of one service."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def preflight(self, method: str, headers: RawHeaders) -> Response | None:
        """The answer to a browser that asks before it sends; it carries no key, so it is asked before access.

        None for every other request, and for an origin that is not allowed.
        """
        if method != "OPTIONS" or not any(name == b"access-control-request-method" for name, _ in headers):
            return None
        if not self._is_allowed(headers):
            return None
        allowed = {"Access-Control-Allow-Methods": METHODS, "Access-Control-Allow-Headers": REQUEST_HEADERS}
        return Response(status_code=204, headers={**allowed, "Access-Control-Max-Age": str(MAX_AGE_S)})

    def reply_headers(self, headers: RawHeaders) -> list[tuple[bytes, bytes]]:
        """What to add to the reply to these request headers."""
        vary = (b"vary", b"origin")
        if not self._is_allowed(headers):
            return [vary]
        origin = next(value for name, value in headers if name == b"origin")
        exposed = (b"access-control-expose-headers", REPLY_HEADERS)
        return [(b"access-control-allow-origin", origin), exposed, vary]

    def _is_allowed(self, headers: RawHeaders) -> bool:
        return any(name == b"origin" and value in self._origins for name, value in headers)
