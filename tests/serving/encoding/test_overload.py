"""More than a slow encoder can do: refused at once, bounded, and right where it is accepted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embeddings.fake_encoder import FakeEncoder
from recsys.errors import CorruptArtifact, EncoderUnavailable, Overloaded
from serving.encoding.client import EncoderClient
from tests.serving.asking import soon
from tests.serving.encoding.conftest import Connect, Process, Start, rss_bytes

SLOW = "tests.serving.encoding.slow_process"
QUEUE = 16


def slow(start: Start, delay_ms: float) -> Process:
    return start(SLOW, "--delay-ms", str(delay_ms), "--queue", str(QUEUE))


def ask_all(client: EncoderClient, texts: list[str], timeout_s: float) -> list[np.ndarray | BaseException]:
    async def all_at_once() -> list[np.ndarray | BaseException]:
        asked = (client.encode_text(text, release_id="r", timeout_s=timeout_s) for text in texts)
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(all_at_once())


def opened(client: EncoderClient) -> None:
    client.ask("text", "its encoders are open now", release_id="r", timeout_s=20.0)


def test_two_hundred_at_once_are_refused_but_for_a_queue_of_sixteen(start: Start, connect: Connect) -> None:
    process, client = slow(start, 50), connect()
    opened(client)
    before = rss_bytes(process.pid)
    n_accepted = n_refused = 0
    for round_number in range(4):
        ended: list[bool] = []

        async def ask(text: str, ended: list[bool] = ended) -> None:
            try:
                vector = await client.encode_text(text, release_id="r", timeout_s=20.0)
            except Overloaded:
                ended.append(False)
            else:
                assert abs(vector - FakeEncoder("text").encode([text])[0]).max() < 1e-6
                ended.append(True)

        async def all_at_once(number: int = round_number, ask: Callable[[str], Any] = ask) -> None:
            await asyncio.gather(*(ask(f"text {number} {text}") for text in range(200)))

        asyncio.run(all_at_once())
        assert ended.count(True) >= QUEUE
        assert ended.count(False) > 100
        assert all(ended[-QUEUE // 2 :]), "who is refused does not wait for those who are not"
        n_accepted, n_refused = n_accepted + ended.count(True), n_refused + ended.count(False)
    assert rss_bytes(process.pid) - before < 16 << 20
    status = client.status(10.0)
    assert (status.n_refused, status.n_encoded, status.n_in_work) == (n_refused, 1 + n_accepted, 0)


def test_what_cannot_be_done_in_time_is_refused_before_its_turn_and_the_rest_is_done(
    start: Start, connect: Connect
) -> None:
    slow(start, 100)
    client = connect()
    opened(client)
    results = ask_all(client, [f"text {number}" for number in range(QUEUE)], 0.45)
    done = sum(isinstance(result, np.ndarray) for result in results)
    assert 1 <= done <= 4
    assert all(isinstance(result, np.ndarray | Overloaded | EncoderUnavailable) for result in results)
    assert client.status(10.0).n_encoded == 1 + done, "nothing was encoded that nobody waited for"


def test_requests_that_were_given_up_are_not_encoded(start: Start, connect: Connect) -> None:
    slow(start, 100)
    client = connect()
    opened(client)

    async def given_up() -> None:
        asked = [
            asyncio.create_task(client.encode_text(f"text {number}", release_id="r", timeout_s=20.0))
            for number in range(QUEUE)
        ]
        await asyncio.sleep(0.05)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(given_up())
    soon(lambda: client.status(10.0).n_in_work == 0)
    assert client.status(10.0).n_encoded <= 2


def test_a_process_that_hangs_costs_a_few_callers_their_time_and_the_others_nothing(
    start: Start, connect: Connect
) -> None:
    process, client = slow(start, 1), connect()
    opened(client)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for number in range(3):
            (result,) = ask_all(client, [f"hangs {number}"], 0.2)
            assert isinstance(result, EncoderUnavailable)
            assert "no answer in" in str(result)
        began_s = time.monotonic()
        for number in range(50):
            (result,) = ask_all(client, [f"is not asked {number}"], 20.0)
            assert isinstance(result, EncoderUnavailable)
            if time.monotonic() - began_s > 0.5:
                break
    finally:
        os.kill(process.pid, signal.SIGCONT)
    soon(lambda: isinstance(ask_all(client, ["it is back"], 1.0)[0], np.ndarray), within_s=10)
    assert client.status(10.0).n_encoded == 2, "what was asked while it hung was dropped"


def test_a_release_that_is_damaged_says_so_and_others_are_served(start: Start, connect: Connect) -> None:
    slow(start, 1)
    client = connect()
    for _ in range(3):
        with pytest.raises(CorruptArtifact, match="damaged"):
            client.ask("text", "hello", release_id="damaged", timeout_s=20.0)
    opened(client)


def test_closing_the_client_ends_the_wait_of_its_callers(connect: Connect) -> None:
    client = connect()

    async def closed() -> BaseException | None:
        waiting = asyncio.create_task(asyncio.to_thread(client.ask, "text", "x", release_id="r", timeout_s=20.0))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(client.close)
        await asyncio.wait({waiting})
        return waiting.exception()

    assert isinstance(asyncio.run(closed()), EncoderUnavailable)
