"""The same calls through either client, so that one test holds both to one contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serving.client import AsyncClient, Client, Manner

Ask = Callable[..., Any]


@dataclass
class Caller:
    """Calls `method` of a client that is made for one call. `waits` are those before further attempts."""

    is_async: bool
    waits: list[float] = field(default_factory=list)
    when_waiting: Callable[[], None] = lambda: None

    def __call__(
        self, url: str, method: str, *given: Any, manner: Manner | None = None, key: str | None = None, **asked: Any
    ) -> Any:
        if self.is_async:
            return asyncio.run(self._awaited(url, method, given, asked, manner, key))
        with Client(url, key, manner=manner, sleep=self._wait) as client:
            return getattr(client, method)(*given, **asked)

    async def _awaited(
        self, url: str, method: str, given: tuple[Any, ...], asked: dict[str, Any], manner: Manner | None, key: Any
    ) -> Any:
        async def sleep(wait_s: float) -> None:
            self._wait(wait_s)

        async with AsyncClient(url, key, manner=manner, sleep=sleep) as client:
            return await getattr(client, method)(*given, **asked)

    def _wait(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        self.when_waiting()
