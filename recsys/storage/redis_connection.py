"""How we reach a Redis server: its URL, its time limits, and its errors in our words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from recsys.errors import ConfigError, StoreUnavailable

CONNECT_TIMEOUT_S = 0.25
OPERATION_TIMEOUT_S = 0.5
_FORM = "redis://[user:password@]host[:port][/db][?namespace=NAME]"

_Answer = TypeVar("_Answer")

# By the code that begins the server's answer, which a script's error only quotes.
_ADVICE_BY_CODE = {
    "READONLY": "It is a replica, which takes no writes; name the primary in the store's URL",
    "OOM": "It is full; raise maxmemory (with maxmemory-policy noeviction) or move its data away",
    "MISCONF": "It cannot write its data to disk, so it takes no writes; free disk space and see its log",
    "WRONGTYPE": "Another program uses these keys; give this one a namespace of its own: ?namespace=NAME",
}
_ADVICE_BY_KIND: tuple[tuple[type[Exception], str], ...] = (
    (redis.AuthenticationError, "Its password is wrong or missing; put it into the store's URL"),
    (redis.BusyLoadingError, "It is still reading its data; it will answer when that is done"),
    (redis.ReadOnlyError, _ADVICE_BY_CODE["READONLY"]),
    (redis.OutOfMemoryError, _ADVICE_BY_CODE["OOM"]),
    (redis.TimeoutError, f"It did not answer in {OPERATION_TIMEOUT_S:g} s; see whether it is stuck or swapping"),
    (redis.ConnectionError, "Start it, or correct the host and port in the store's URL"),
)
_IN_A_SCRIPT = re.compile(r"^Error running script .*@user_script: ?\d+: -?")


class RedisConnection:
    """A pool of connections to one server; made without asking it anything, and of use again once it is back.

    Attributes:
        client: redis-py's client, answering in bytes. It never tries twice: a write that timed out may have happened.
        namespace: what every key begins with.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigError when the URL is not of the form `redis://host:port/db[?namespace=NAME]`."""
        parts = urlsplit(url)
        try:
            port = parts.port or 6379
            database = int(parts.path.strip("/") or 0)
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError as error:
            raise ConfigError(f"the store URL redis://{parts.hostname} is not whole ({error}); write {_FORM}") from None
        self.namespace = options.pop("namespace", "recsys")
        if not parts.hostname or options or not self.namespace or parts.fragment:
            wrong = f"it has {', '.join(sorted(options))}" if options else "its host or namespace is empty"
            raise ConfigError(f"the store URL redis://{parts.hostname or ''} is not whole ({wrong}); write {_FORM}")
        self.address = f"redis://{parts.hostname}:{port}/{database}"
        self.client = redis.Redis(
            host=parts.hostname,
            port=port,
            db=database,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=OPERATION_TIMEOUT_S,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """The client, its errors raised as StoreUnavailable with what to do."""
        try:
            yield self.client
        except (redis.RedisError, OSError) as error:
            words = _IN_A_SCRIPT.sub("", str(error)).rstrip(".")
            raise StoreUnavailable(f"Redis at {self.address}: {words}. {_advice(error, words)}") from error

    def read(self, ask: Callable[[Any], _Answer]) -> _Answer:
        """The answer to a question that changes nothing, asked once more when the connection broke.

        A question that ran into the time limit is not repeated: its user has waited long enough.
        """
        with self.asking():
            try:
                return ask(self.client)
            except redis.ConnectionError:
                return ask(self.client)

    def close(self) -> None:
        self.client.close()


def _advice(error: Exception, words: str) -> str:
    code = words.partition(" ")[0]
    if code in _ADVICE_BY_CODE:
        return _ADVICE_BY_CODE[code]
    found = (advice for kind, advice in _ADVICE_BY_KIND if isinstance(error, kind))
    return next(found, "See the server's log, and try again")
