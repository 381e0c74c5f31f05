"""How calls are made: attempts, waits, connections; once for threads and once for `await`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Self, TypeVar
from uuid import uuid4

import httpx

from serving.client.calls import Call
from serving.client.errors import ClientError
from serving.client.exchanges import LIMITS, headers_for, headers_of, reply_to, unreachable
from serving.client.retries import Retries

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a client calls.

    Attributes:
        timeout_s: the longest that a connection, or the next part of a reply, is waited for; a call may overrule it.
        retries: when a call is made again.
        random: spreads the attempts of many clients over time.
        request_id: names a call; the same for all its attempts.
        clock: seconds, never going back.
        now: against which a `Retry-After` that is a date is read.
    """

    timeout_s: float = 5.0
    retries: Retries = field(default_factory=Retries)
    random: Random = field(default_factory=Random)
    request_id: Callable[[], str] = lambda: uuid4().hex
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def wait_s(self, call: Call[R], n_made: int, started: float, error: ClientError) -> float | None:
        """How long to wait before the call is made again; None: never."""
        if not call.is_repeatable:
            return None
        return self.retries.wait_s(n_made, self.clock() - started, error.retry_after_s, self.random.random())


class Sender:
    """Makes calls, over connections that it keeps. Its methods may be called from several threads."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        manner: Manner | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            base_url: where the service is, with the path before `/v1` where it has one.
            api_key: None where the service asks for none.
            manner: timeouts, retries, and what they depend on.
            transport: what carries requests instead of the network.
            sleep: waits so many seconds for the next attempt.
        """
        self._manner = manner or Manner()
        self._sleep = sleep
        self._http = httpx.Client(base_url=base_url, headers=headers_for(api_key), limits=LIMITS, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: Call[R], timeout_s: float | None) -> R:
        """Raises ClientError."""
        manner = self._manner
        request_id, started = manner.request_id(), manner.clock()
        for n_made in count(1):
            try:
                return self._attempt(call, request_id, manner.timeout_s if timeout_s is None else timeout_s)
            except ClientError as error:
                wait_s = manner.wait_s(call, n_made, started, error)
                if wait_s is None:
                    raise
            self._sleep(wait_s)
        raise AssertionError  # count never ends

    def _attempt(self, call: Call[R], request_id: str, timeout_s: float) -> R:
        try:
            response = self._http.request(
                call.method,
                call.path,
                params=call.params or None,
                content=call.body,
                headers=headers_of(call, request_id),
                timeout=timeout_s,
            )
        except httpx.TransportError as error:
            raise unreachable(error, self._http.base_url.host) from error
        return reply_to(call, response, request_id, self._manner.now())


class AsyncSender:
    """The same for `await`; all calls of one are made in one event loop."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        manner: Manner | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            base_url: where the service is, with the path before `/v1` where it has one.
            api_key: None where the service asks for none.
            manner: timeouts, retries, and what they depend on.
            transport: what carries requests instead of the network.
            sleep: waits so many seconds for the next attempt.
        """
        self._manner = manner or Manner()
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=headers_for(api_key), limits=LIMITS, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, call: Call[R], timeout_s: float | None) -> R:
        """Raises ClientError."""
        manner = self._manner
        request_id, started = manner.request_id(), manner.clock()
        for n_made in count(1):
            try:
                return await self._attempt(call, request_id, manner.timeout_s if timeout_s is None else timeout_s)
            except ClientError as error:
                wait_s = manner.wait_s(call, n_made, started, error)
                if wait_s is None:
                    raise
            await self._sleep(wait_s)
        raise AssertionError  # count never ends

    async def _attempt(self, call: Call[R], request_id: str, timeout_s: float) -> R:
        try:
            response = await self._http.request(
                call.method,
                call.path,
                params=call.params or None,
                content=call.body,
                headers=headers_of(call, request_id),
                timeout=timeout_s,
            )
        except httpx.TransportError as error:
            raise unreachable(error, self._http.base_url.host) from error
        return reply_to(call, response, request_id, self._manner.now())
