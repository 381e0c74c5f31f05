from __future__ import annotations

import asyncio
import threading

import pytest

from recsys.errors import Overloaded
from recsys.ports import UserState
from serving.work import Work
from tests.serving.asking import refused, soon
from tests.serving.conftest import Serve


def test_one_more_than_may_wait_is_refused_at_once_and_the_place_is_free_again() -> None:
    gate = threading.Event()
    work = Work("test", threads=1, max_concurrent=2)

    async def scenario() -> None:
        busy = [asyncio.create_task(work.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await work.run(lambda: None)
        gate.set()
        await asyncio.gather(*busy)
        assert await work.run(lambda: 7) == 7

    asyncio.run(scenario())
    work.close()


def test_a_cancelled_request_holds_its_place_until_its_thread_is_done() -> None:
    gate = threading.Event()
    work = Work("test", threads=1, max_concurrent=1)

    async def scenario() -> None:
        task = asyncio.create_task(work.run(gate.wait))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(Overloaded):
            await work.run(lambda: None)
        gate.set()

    asyncio.run(scenario())
    work.close()


class SlowReader:
    """Answers when the gate opens, as a store that is slow."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()

    async def packed_state(self, user_id: str, *, timeout_s: float, with_served: bool = False) -> UserState:
        self.entered.set()
        while not self.gate.is_set():
            await asyncio.sleep(0.005)
        return UserState()

    async def close(self) -> None:
        """Nothing to let go of."""


def test_a_full_service_answers_429_with_a_time_to_come_back(serve: Serve) -> None:
    client, reader = serve(limits={"max_concurrent": 1}), SlowReader()
    object.__setattr__(client.app.state.service.states, "reader", reader)  # type: ignore[attr-defined]
    first = threading.Thread(target=lambda: client.post("/v1/recommendations", json={"user_id": "u"}))
    first.start()
    assert reader.entered.wait(5)
    response = client.post("/v1/recommendations", json={"user_id": "u"})
    refused(response, 429)
    unread = client.post("/v1/recommendations", content=b"never read", headers={"content-type": "text/plain"})
    refused(unread, 429)
    assert int(response.headers["retry-after"]) >= 1
    assert client.get("/healthz").status_code == 200
    reader.gate.set()
    first.join()
    soon(lambda: client.post("/v1/recommendations", json={}).status_code == 200)
