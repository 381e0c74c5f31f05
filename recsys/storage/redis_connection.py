"""How we reach a Redis server: its URL, its time limits, and its errors in our words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from recsys.errors import StoreUnavailable
from recsys.storage.redis_address import ADVICE_BY_CODE, SEE_ITS_LOG, START_IT, RedisAddress, advice_on

CONNECT_TIMEOUT_S = 0.25
OPERATION_TIMEOUT_S = 0.5
_MAX_TRIES = 200  # each means that another writer succeeded meanwhile

_Answer = TypeVar("_Answer")

_ADVICE_BY_KIND: tuple[tuple[type[Exception], str], ...] = (
    (redis.AuthenticationError, "Its password is wrong or missing; put it into the store's URL"),
    (redis.BusyLoadingError, ADVICE_BY_CODE["LOADING"]),
    (redis.ReadOnlyError, ADVICE_BY_CODE["READONLY"]),
    (redis.OutOfMemoryError, ADVICE_BY_CODE["OOM"]),
    (redis.TimeoutError, f"It did not answer in {OPERATION_TIMEOUT_S:g} s; see whether it is stuck or swapping"),
    (redis.ConnectionError, START_IT),
)
_IN_A_SCRIPT = re.compile(r"^Error running script .*@user_script: ?\d+: -?")


class RedisConnection:
    """A pool of connections to one server; made without asking it anything, and of use again once it is back.

    Attributes:
        client: redis-py's client, answering in bytes. It never tries twice: a write that timed out may have happened.
        namespace: what every key begins with.
    """

    def __init__(self, url: str) -> None:
        """Raises ConfigError when the URL is not of the form `redis_address.FORM`."""
        self.address = RedisAddress.parse(url)
        self.namespace = self.address.namespace
        where: dict[str, Any] = {"host": self.address.host, "port": self.address.port, "socket_keepalive": True}
        if self.address.unix_path:
            where = {"unix_socket_path": self.address.unix_path}
        self.client = redis.Redis(
            **where,
            db=self.address.database,
            username=self.address.username,
            password=self.address.password,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=OPERATION_TIMEOUT_S,
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
    advice = advice_on(words)
    if advice != SEE_ITS_LOG:
        return advice
    return next((advice for kind, advice in _ADVICE_BY_KIND if isinstance(error, kind)), SEE_ITS_LOG)


def until_undisturbed(attempt: Callable[[], _Answer | None]) -> _Answer:
    """Repeat `attempt` until it gives an answer. Each None means that another writer succeeded, so that somebody
    always moves on; waiting a little longer each time lets the others end first."""
    for tries in range(_MAX_TRIES):
        answer = attempt()
        if answer is not None:
            return answer
        time.sleep(min(tries, 20) * 0.001)
    raise StoreUnavailable(f"{_MAX_TRIES} other writers changed the same users first; send fewer writers at a time")
