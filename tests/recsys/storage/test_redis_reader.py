"""What may go wrong between an event loop and Redis, and that nobody ever gets another user's state."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, StoreUnavailable
from recsys.ports import StateReader
from recsys.storage.redis_address import RedisAddress
from recsys.storage.redis_reader import RedisStateReader
from recsys.storage.redis_server import PrivateRedis
from recsys.storage.urls import open_store
from tests.contracts.events import event
from tests.worlds.fault_proxy import Fault, FaultProxy, fault_proxy

N_USERS = 40
Scenario = Callable[[RedisStateReader, FaultProxy], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    """User u<n> has one event, with item i<n>, and u0 has none."""
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as running:
        store = open_store(running.url)
        store.append([event(number, user=f"u{number}") for number in range(1, N_USERS)])
        store.append([event(N_USERS + number, user="long") for number in range(200)])
        store.close()
        yield running


async def item_of(reader: StateReader, user: str, timeout_s: float = 5.0) -> str | None:
    history = (await reader.packed_state(user, timeout_s=timeout_s)).unpack().history
    return history[0].item_id if history else None


async def until_it_answers(reader: StateReader) -> None:
    """Within ten seconds: far more than it may take, for a machine that is busy with other things."""
    async with asyncio.timeout(10):
        while True:
            try:
                assert await item_of(reader, "u1", 0.5) == "i1"
                return
            except StoreUnavailable:
                await asyncio.sleep(0.01)


def play(server: PrivateRedis, scenario: Scenario) -> None:
    async def run() -> None:
        async with fault_proxy(server.port) as proxy:
            reader = RedisStateReader(f"redis://127.0.0.1:{proxy.port}/0")
            try:
                await scenario(reader, proxy)
            finally:
                await reader.close()

    asyncio.run(run())
    uvloop.run(run())


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), breaks=st.booleans())
def test_nobody_ever_gets_the_state_of_another_user(server: PrivateRedis, seed: int, breaks: bool) -> None:
    """Reads that are cancelled, run out of time, or lose their connection, through a proxy that holds answers back."""
    chance = random.Random(seed)
    n_answered = 0

    async def one(reader: RedisStateReader, user: int) -> None:
        nonlocal n_answered
        await asyncio.sleep(chance.random() * 0.02)
        patience_s = chance.choice((0.0, 0.001, 0.003, 0.02, 5.0, 5.0))
        asked = asyncio.ensure_future(item_of(reader, f"u{user}", chance.choice((0.0005, 0.004, 5.0, 5.0))))
        try:
            found = await asyncio.wait_for(asked, patience_s)
        except (StoreUnavailable, TimeoutError):
            return
        n_answered += 1
        assert found == (f"i{user}" if user else None)

    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.delay_s = lambda: chance.choice((0.0, 0.0, 0.001, 0.006))
        reads = asyncio.gather(*(one(reader, chance.randrange(N_USERS)) for _ in range(150)))
        if breaks:
            for fault in chance.sample(("reset", "truncate", "none"), 2):
                await asyncio.sleep(0.005)
                proxy.fault = fault  # type: ignore[assignment]
            proxy.fault = "none"
        await reads
        await until_it_answers(reader)

    play(server, scenario)
    assert n_answered > 0 or breaks


def test_an_answer_that_came_too_late_is_given_to_nobody(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.delay_s = lambda: 0.05
        late = asyncio.ensure_future(item_of(reader, "u2", 0.005))
        patient = asyncio.ensure_future(item_of(reader, "u3"))
        with pytest.raises(StoreUnavailable, match=r"did not answer in 0\.005 s"):
            await late
        assert await patient == "i3"
        assert proxy.n_connections == 1

    play(server, scenario)


def test_a_cancelled_read_leaves_the_others_in_order(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        reads = [asyncio.ensure_future(item_of(reader, f"u{n}")) for n in range(1, N_USERS)]
        await asyncio.sleep(0)
        for read in reads[::3]:
            read.cancel()
        found = await asyncio.gather(*reads, return_exceptions=True)
        kept = [(n, item) for n, item in enumerate(found, start=1) if not isinstance(item, asyncio.CancelledError)]
        assert len(kept) == len(reads) - len(reads[::3])
        assert all(item == f"i{n}" for n, item in kept)
        assert proxy.n_connections == 1

    play(server, scenario)


@pytest.mark.parametrize("fault", ["hole", "reset", "truncate", "say"])
def test_a_fault_is_told_and_all_is_well_once_it_is_over(server: PrivateRedis, fault: Fault) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.fault = fault
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await item_of(reader, "long", 0.05)
        proxy.fault = "none"
        await until_it_answers(reader)

    play(server, scenario)


def test_an_answer_is_never_taken_for_another_ones_even_where_questions_get_lost(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.fault = "hole"
        lost = [asyncio.ensure_future(item_of(reader, "u2", timeout_s)) for timeout_s in (0.001, 60.0, 60.0)]
        await asyncio.sleep(0.02)
        proxy.fault = "none"
        with pytest.raises(StoreUnavailable, match="another question"):
            await item_of(reader, "u3")
        assert all(isinstance(each, StoreUnavailable) for each in await asyncio.gather(*lost, return_exceptions=True))
        await until_it_answers(reader)

    play(server, scenario)


def test_a_server_that_reads_its_data_is_named_as_such(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.fault = "say"
        with pytest.raises(StoreUnavailable, match=r"LOADING.*still reading its data"):
            await item_of(reader, "u1")
        assert proxy.n_connections == 1  # an error is an answer: the connection is good

    play(server, scenario)


@pytest.mark.parametrize("line", [b"?what\r\n", b"$-9\r\n", b"+one\r\n", b":1\r\n:2\r\n:3\r\n"])
def test_an_answer_that_is_none_ends_the_connection(server: PrivateRedis, line: bytes) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.fault, proxy.line = "say", line
        with pytest.raises(StoreUnavailable):
            await item_of(reader, "u1", 0.2)
        proxy.fault = "none"
        await until_it_answers(reader)
        assert proxy.n_connections > 1

    play(server, scenario)


def test_silence_ends_the_connection_and_then_nobody_waits(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.fault = "hole"
        with pytest.raises(StoreUnavailable, match=r"has not answered for over 0\.5 s"):
            await item_of(reader, "u1", 60.0)  # far longer than silence is borne
        for _ in range(200):  # from the first failed attempt on, it is known
            with pytest.raises(StoreUnavailable) as raised:
                await item_of(reader, "u1", 60.0)
            if "did not answer in 0.25 s" in str(raised.value):
                break
        started = asyncio.get_running_loop().time()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await item_of(reader, "u1", 60.0)
        assert asyncio.get_running_loop().time() - started < 10.0  # a hundred waits would be 25 s
        proxy.fault = "none"
        await until_it_answers(reader)

    play(server, scenario)


def test_a_server_that_refuses_is_told_at_once_and_found_again(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        await proxy.refuse()
        with pytest.raises(StoreUnavailable):
            await item_of(reader, "u1")
        with pytest.raises(StoreUnavailable, match="Start it"):
            await item_of(reader, "u1")
        await proxy.listen()
        await until_it_answers(reader)

    play(server, scenario)


def test_a_stopped_server_costs_a_read_no_more_than_its_time_limit(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable, match="did not answer in"):
                await item_of(reader, "u1", 0.02)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until_it_answers(reader)

    play(server, scenario)


def test_a_closed_reader_says_so_to_those_who_wait(server: PrivateRedis) -> None:
    async def scenario(reader: RedisStateReader, proxy: FaultProxy) -> None:
        await until_it_answers(reader)
        proxy.fault = "hole"
        waiting = asyncio.ensure_future(item_of(reader, "u1"))
        await asyncio.sleep(0.01)
        await reader.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await waiting
        with pytest.raises(StoreUnavailable, match="closed"):
            await item_of(reader, "u1")

    play(server, scenario)


def test_a_password_and_a_database_are_used(server: PrivateRedis) -> None:
    admin = redis.Redis(port=server.port, protocol=2)
    admin.config_set("requirepass", "se:cr@t")
    try:
        base = f"127.0.0.1:{server.port}/3?namespace=n"
        url = f"redis://:se%3Acr%40t@{base}"
        store = open_store(url)
        store.append([event(7)])
        store.close()
        assert asyncio.run(_read_once(url)) == "i7"
        assert asyncio.run(_read_once(url.replace("/3", "/4"))) is None
        with pytest.raises(StoreUnavailable, match=r"NOAUTH.*asks for a password"):
            asyncio.run(_read_once(f"redis://{base}"))
        with pytest.raises(StoreUnavailable, match="Its password is wrong") as raised:
            asyncio.run(_read_once(f"redis://:wrong-one@{base}"))
        assert "wrong-one" not in str(raised.value)
    finally:
        redis.Redis(port=server.port, password="se:cr@t", protocol=2).config_set("requirepass", "")


async def _read_once(url: str, user: str = "ann") -> str | None:
    reader = RedisStateReader(url)
    try:
        return await item_of(reader, user)
    finally:
        await reader.close()


@pytest.mark.parametrize("kind", ["ipv6", "unix"])
def test_it_is_reached_by_ipv6_and_by_a_unix_socket(server: PrivateRedis, kind: str, tmp_path: Path) -> None:
    async def run() -> None:
        proxy = FaultProxy(server.port)
        if kind == "ipv6":
            await proxy.listen("::1")
            url = f"redis://[::1]:{proxy.port}/0"
        else:
            await proxy.listen_on(f"{tmp_path}/r.sock")
            url = f"unix://{tmp_path}/r.sock?db=0"
        assert await _read_once(url, "u1") == "i1"
        store = open_store(url)
        assert (await asyncio.to_thread(store.user_state, "u1")).history[0].item_id == "i1"
        store.close()
        await proxy.refuse()

    asyncio.run(run())


def test_addresses_are_shown_without_the_password() -> None:
    address = RedisAddress.parse("redis://me:hunter2@[::1]:7000/2?namespace=n")
    assert str(address) == "redis://[::1]:7000/2"
    assert "hunter2" not in repr(address)
    assert (address.host, address.username, address.password, address.namespace) == ("::1", "me", "hunter2", "n")
    assert str(RedisAddress.parse("unix:///run/r.sock?db=3")) == "unix:///run/r.sock?db=3"


@pytest.mark.parametrize("url", ["unix://", "unix:///r.sock?db=x", "unix:///r.sock?size=3", "redis://:pw@/0"])
def test_an_address_that_is_not_whole_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"write redis://.*unix://"):
        RedisAddress.parse(url)
