"""Who may call: API keys, compared by their sha256 in constant time. Without configured keys everybody who reaches
the service may (it then listens on loopback only)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response

from recsys.serving_config import is_loopback
from serving.errors import problem

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Access:
    """Deny by default: a path is open only when it is named here."""

    def __init__(self, keys_sha256: Sequence[str]) -> None:
        self._keys = tuple(bytes.fromhex(key) for key in keys_sha256)

    def refusal(self, scope: Mapping[str, Any]) -> Response | None:
        """The 401 reply to a request that may not pass; None for one that may."""
        if not self._keys or scope["path"] in OPEN_PATHS:
            return None
        headers = Headers(raw=scope["headers"])
        if scope["path"] == "/metrics" and _from_this_machine(scope, headers):
            return None
        if self._knows(_presented(headers)):
            return None
        detail = "send a valid API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`"
        return problem(401, detail, headers={"WWW-Authenticate": "Bearer"})

    def _knows(self, key: str) -> bool:
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        # All are compared, so that the time does not tell which one matched.
        return sum(hmac.compare_digest(digest, known) for known in self._keys) > 0


def _presented(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


def _from_this_machine(scope: Mapping[str, Any], headers: Headers) -> bool:
    """A scraper beside us; what a proxy passes on also comes from loopback, and says so in a header."""
    client = scope.get("client")
    forwarded = any(name in headers for name in FORWARDING_HEADERS)
    return client is not None and is_loopback(client[0]) and not forwarded
