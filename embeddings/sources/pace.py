"""How many requests go out, to one host and to all, and how fast: a catalogue must not become an attack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from embeddings.refused import Refused
from recsys.sources_config import HttpConfig

_HOSTS_BEFORE_SWEEP = 10_000


@dataclass
class _Host:
    places: asyncio.Semaphore
    users: int = 0
    next_start_s: float = 0.0  # the rate
    resumes_s: float = 0.0  # Retry-After
    asked_wait_s: float = 0.0

    def is_busy(self, now_s: float) -> bool:
        return self.users > 0 or max(self.next_start_s, self.resumes_s) > now_s


class Pace:
    """Hands out places for requests. Lives in one event loop; times are the loop's own seconds."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._interval_s = 1 / config.requests_per_s if config.requests_per_s else 0.0
        self._total = asyncio.Semaphore(config.total)
        self._hosts: dict[str, _Host] = {}
        self._sweep_at = _HOSTS_BEFORE_SWEEP

    @asynccontextmanager
    async def place(self, host: str) -> AsyncIterator[None]:
        """Hold one place at that host for the length of one request.

        Raises:
            Refused: `http_status`, the host asked for a longer wait than `max_wait_s` and is left alone.
        """
        state = self._hosts.setdefault(host, _Host(asyncio.Semaphore(self._config.per_host)))
        state.users += 1
        try:
            # The host's place is taken first: who waits for a slow host must not hold up the others.
            async with state.places:
                await self._turn(host, state)
                async with self._total:
                    yield
        finally:
            state.users -= 1
            self._forget_idle()

    def pause(self, host: str, wait_s: float) -> None:
        """No further request to that host before `wait_s` seconds have gone, as it asked."""
        if state := self._hosts.get(host):
            state.resumes_s = max(state.resumes_s, asyncio.get_running_loop().time() + wait_s)
            state.asked_wait_s = max(state.asked_wait_s, wait_s)

    async def _turn(self, host: str, state: _Host) -> None:
        clock = asyncio.get_running_loop().time
        while (wait_s := state.resumes_s - clock()) > 0:
            if wait_s > self._config.max_wait_s:
                asked = f"{host} asked to be left alone for {state.asked_wait_s:.0f} s"
                raise Refused("http_status", f"{asked}, longer than max_wait_s: run again later with --retry failed")
            await asyncio.sleep(wait_s)
        if self._interval_s:
            start_s = max(clock(), state.next_start_s)
            state.next_start_s = start_s + self._interval_s
            await asyncio.sleep(start_s - clock())

    def _forget_idle(self) -> None:
        """Catalogues may name a million hosts; those at rest need not be remembered."""
        if len(self._hosts) < self._sweep_at:
            return
        now_s = asyncio.get_running_loop().time()
        self._hosts = {name: host for name, host in self._hosts.items() if host.is_busy(now_s)}
        self._sweep_at = max(_HOSTS_BEFORE_SWEEP, 2 * len(self._hosts))
