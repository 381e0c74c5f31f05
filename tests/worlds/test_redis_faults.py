"""The fault proxy does what it says, to redis-py itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from recsys.storage.redis_server import PrivateRedis
from tests.worlds.redis_faults import SLOW_S, Fault, RedisFaults, end_of, taken


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisFaults]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server, RedisFaults(server.port) as faults:
        yield faults


@pytest.fixture
def client(faults: RedisFaults) -> Iterator[redis.Redis]:
    """A client through the proxy, with a value there, a time limit, and no second try; healed at the end."""
    client = redis.Redis.from_url(faults.url, socket_timeout=1, retry=Retry(NoBackoff(), 0))
    client.set("key", "value")
    yield client
    faults.set("none")
    assert client.get("key") == b"value", "all is well again"
    client.close()


def test_without_a_fault_everything_passes(client: redis.Redis, tmp_path: Path) -> None:
    client.set("large", b"\r\n" * 200_000)
    assert client.get("large") == b"\r\n" * 200_000
    pipeline = client.pipeline(transaction=True)
    for number in range(50):
        pipeline.hset("hash", str(number), "x")
    assert pipeline.execute() == [1] * 50
    client.delete("hash", "large")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("refuse", redis.ConnectionError),
        ("reset", redis.ConnectionError),
        ("truncated", redis.ConnectionError),
        ("black_hole", redis.TimeoutError),
        ("loading", redis.BusyLoadingError),
    ],
)
def test_a_read_fails_as_the_fault_says(
    fault: Fault, error: type[Exception], faults: RedisFaults, client: redis.Redis
) -> None:
    assert client.get("key") == b"value"
    faults.set(fault)
    for _ in range(2):
        with pytest.raises(error):
            client.get("key")


@pytest.mark.parametrize(("fault", "error"), [("readonly", redis.ReadOnlyError), ("oom", redis.OutOfMemoryError)])
def test_a_server_that_takes_no_writes_still_reads(
    fault: Fault, error: type[Exception], faults: RedisFaults, client: redis.Redis
) -> None:
    faults.set(fault)
    assert client.get("key") == b"value"
    with pytest.raises(error):
        client.set("key", "another value")


def test_a_slow_server_answers_late(faults: RedisFaults, client: redis.Redis) -> None:
    faults.set("slow")
    started = time.monotonic()
    assert client.get("key") == b"value"
    assert time.monotonic() - started >= SLOW_S


def test_a_flushed_server_has_lost_everything(faults: RedisFaults, client: redis.Redis) -> None:
    faults.flush_all()
    assert client.dbsize() == 0
    client.set("key", "value")


@pytest.mark.parametrize(
    "value",
    [
        b"+OK\r\n",
        b":12\r\n",
        b"$-1\r\n",
        b"$3\r\n\r\na\r\n",
        b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
        b"%1\r\n+a\r\n:1\r\n",
        b"*-1\r\n",
    ],
)
def test_a_value_ends_where_it_ends_and_not_before(value: bytes) -> None:
    assert end_of(value) == len(value)
    assert all(end_of(value[:cut]) == -1 for cut in range(len(value)))
    buffer = bytearray(value + value + value[:-1])
    assert taken(buffer) == 2
    assert buffer == value[:-1]
