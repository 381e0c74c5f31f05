"""Who may call, and what: API keys with scopes, told by their sha256. Without configured keys everybody who reaches the
service may do everything (it then listens on loopback only).

The order is 401 (no key that we know), 403 (not the scope), and then, in `serving.rate_limits`, 429.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from recsys.serving_config import ALL_SCOPES, ApiKeyConfig, Scope, is_loopback
from serving.errors import problem
from serving.operations import Needs
from serving.rate_limits import Bucket

RawHeaders = Sequence[tuple[bytes, bytes]]
FORWARDING_HEADERS = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})
METRICS_PATH = "/metrics"


@dataclass(frozen=True, slots=True)
class Grant:
    """A caller who may pass.

    Attributes:
        name: of the key; "" where none was asked for.
        bucket: what limits its rate, or None.
    """

    name: str
    scopes: frozenset[Scope]
    bucket: Bucket | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A caller who may not. `response` is made once and sent to many: it must not be changed."""

    response: Response

    @property
    def status(self) -> int:
        return self.response.status_code


OPEN = Grant("", frozenset(ALL_SCOPES))


class Access:
    """Deny by default: what is open is named so by its operation."""

    def __init__(self, keys: Sequence[ApiKeyConfig], buckets: Mapping[str, Bucket] | None = None) -> None:
        """`buckets` by the name of the key; a key that is not among them has no limit."""
        found = buckets or {}
        grants = (Grant(key.name, _scopes_of(key), found.get(key.name)) for key in keys)
        self._grants = tuple((bytes.fromhex(key.sha256), grant) for key, grant in zip(keys, grants, strict=True))
        # Digests of keys that were sent and known: as many as there are keys, so it needs no bound of its own.
        self._met: dict[bytes, Grant] = {}
        self._unknown = _unknown_key()
        self._lacking = {scope: _lacking(scope) for scope in ALL_SCOPES}

    def check(
        self, headers: RawHeaders, path: str, needed: Needs | None, client_host: str | None = None
    ) -> Grant | Refusal:
        """Whether a request may pass.

        Args:
            headers: as ASGI gives them, names in lower case.
            needed: the operation's scope; None where there is no such operation: any valid key passes, so that nobody
                learns without one what there is.
            client_host: who is connected; from this machine `/metrics` needs no key.
        """
        if not self._grants or needed == "open":
            return OPEN
        grant = self._known(headers)
        if grant is None:
            return OPEN if path == METRICS_PATH and _from_this_machine(client_host, headers) else self._unknown
        if needed is None or needed in grant.scopes:
            return grant
        return self._lacking[needed]

    def _known(self, headers: RawHeaders) -> Grant | None:
        digest = hashlib.sha256(_presented(headers)).digest()
        grant = self._met.get(digest)
        if grant is None:
            for known, candidate in self._grants:  # all are compared, so that the time does not tell which one matched
                if hmac.compare_digest(digest, known):
                    grant = candidate
            if grant is not None:
                self._met[digest] = grant
        return grant


def _presented(headers: RawHeaders) -> bytes:
    key = b""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return token.strip()
        elif name == b"x-api-key" and not key:
            key = value.strip()
    return key


def _from_this_machine(client_host: str | None, headers: RawHeaders) -> bool:
    """A scraper beside us; what a proxy passes on also comes from loopback, and says so in a header."""
    if client_host is None or not is_loopback(client_host):
        return False
    return not any(name in FORWARDING_HEADERS for name, _ in headers)


def _scopes_of(key: ApiKeyConfig) -> frozenset[Scope]:
    return frozenset(ALL_SCOPES if "admin" in key.scopes else key.scopes)


def _unknown_key() -> Refusal:
    detail = "send a valid API key, as `Authorization: Bearer KEY` or as `X-API-Key: KEY`"
    return Refusal(problem(401, detail, headers={"WWW-Authenticate": "Bearer"}))


def _lacking(scope: Scope) -> Refusal:
    detail = f"this needs a key with the scope `{scope}`; give it to this key in [serving] api_keys, or send another"
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'  # RFC 6750
    return Refusal(problem(403, detail, kind="missing-scope", headers={"WWW-Authenticate": challenge}))
