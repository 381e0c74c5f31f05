"""The service on a Redis that fails in every way there is: it answers all along, says that it is degraded, and is whole
again soon after its Redis is."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from recsys.storage.redis_server import PrivateRedis
from recsys.storage.urls import open_store
from recsys.types import HistoryItem
from tests.benchmarks._serving.bench import ask
from tests.benchmarks._serving.client import Load, run
from tests.benchmarks._serving.loops import open_loop
from tests.benchmarks._serving.processes import Server, free_port
from tests.benchmarks._serving.world import ROOT, SMOKE_SIZE, World, ensure_world, item_id, requests_of, user_id
from tests.worlds.redis_faults import FAULTS, Fault, RedisFaults

pytestmark = pytest.mark.slow

RATE, N_USERS = 50.0, 50
FAULT_AT_S, HEALED_AT_S, SECONDS = 1.0, 3.0, 7.0
# Exposures may be written in the background: their failure is known a moment later.
KNOWN_AFTER_S, RECOVERY_S = 0.25, 2.0
ANSWERED_SHARE = 0.999
WHOLE_WITHIN_S = 10.0
# On a busy machine an answer of Redis may be late while all is well; stages that a request had no time for, and that do
# not ask Redis, are not looked at.
LATE_SHARE = 0.05
ASK_REDIS = {"hydrate", "live_items", "expose"}


@dataclass
class Answers:
    """What came back 200: (intended time in seconds, the stages that it names as degraded)."""

    all: list[tuple[float, frozenset[str]]] = field(default_factory=list)

    def watch(self, intended_s: float, status: int, reply: bytes) -> None:
        if status == 200:
            self.all.append((intended_s, frozenset(json.loads(reply.partition(b"\r\n\r\n")[2])["degraded"])))

    def degraded(self, from_s: float, until_s: float) -> tuple[int, int]:
        """Of the answers to requests of that time: how many lacked something of Redis, and how many there were."""
        without_redis = [bool(stages & ASK_REDIS) for at_s, stages in self.all if from_s <= at_s < until_s]
        return sum(without_redis), len(without_redis)

    def named(self, from_s: float, until_s: float) -> dict[str, int]:
        """How many answers of that time named which stage."""
        return dict(Counter(stage for at_s, stages in self.all if from_s <= at_s < until_s for stage in stages))


@dataclass(frozen=True)
class Running:
    """The service, on its fault proxy."""

    server: Server
    faults: RedisFaults
    redis_url: str


@pytest.fixture(scope="module")
def world() -> World:
    return ensure_world(ROOT / "build" / "bench-serving", SMOKE_SIZE)


@pytest.fixture(scope="module")
def calm() -> Iterator[None]:
    """The proxy and the client live in this process: a search for cycles in all that earlier tests left would hold
    them up for longer than the service waits for an answer of its store."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def running(world: World, calm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("faults")
    with PrivateRedis(folder / "redis") as redis, RedisFaults(redis.port) as faults:
        know_users(redis.url, world)
        port = free_port()
        workspace = str(world.workspace(query_cache=True))
        command = [
            sys.executable,
            "-m",
            "serving",
            "--workspace",
            workspace,
            "--port",
            str(port),
            "--store",
            faults.url,
        ]
        core = min(os.sched_getaffinity(0))
        with Server("the service", command, port=port, core=core, log=folder / "service.log") as server:
            server.wait_ready(60)
            yield Running(server, faults, redis.url)


@pytest.fixture(autouse=True)
def healed(running: Running, world: World) -> Iterator[None]:
    """Each test begins with every user known and nothing wrong."""
    know_users(running.redis_url, world)
    give_up_at = time.monotonic() + WHOLE_WITHIN_S
    while lacking := ASK_REDIS & set(ask(running.server, {"user_id": user_id(0)})["degraded"]):
        assert time.monotonic() < give_up_at, f"while Redis was well the service lacked {lacking}"
        time.sleep(0.05)
    yield
    running.faults.set("none")


def know_users(redis_url: str, world: World) -> None:
    store = open_store(redis_url)
    histories = world.histories[:N_USERS].tolist()
    store.import_histories(
        (user_id(user), [HistoryItem(item_id(row), "view", 1 + at) for at, row in enumerate(rows)])
        for user, rows in enumerate(histories)
    )
    store.close()


def loaded(running: Running, break_it: Callable[[], None], heal_it: Callable[[], None]) -> tuple[Load, Answers]:
    """A steady load during which it breaks at `FAULT_AT_S` and is healed at `HEALED_AT_S`."""
    answers, passed = Answers(), [0]

    def each_second() -> None:
        passed[0] += 1
        if passed[0] == FAULT_AT_S:
            break_it()
        elif passed[0] == HEALED_AT_S:
            heal_it()

    load = run(
        open_loop(
            running.server.port,
            requests_of(range(N_USERS)),
            rate=RATE,
            seconds=SECONDS,
            connections=128,
            seed=1,
            watch=answers.watch,
            each_second=each_second,
        )
    )
    return load, answers


def require_answered(load: Load) -> None:
    share = load.statuses[200] / load.n_due
    assert share >= ANSWERED_SHARE, (
        f"{share:.4f} answered 200: {dict(load.statuses)}, {load.broken} broken, {load.unanswered} unanswered"
    )


def require_whole(answers: Answers, from_s: float, until_s: float, when: str) -> None:
    degraded, number = answers.degraded(from_s, until_s)
    assert degraded <= LATE_SHARE * number > 0, (
        f"{degraded} of {number} answers lacked something of Redis {when}: {answers.named(from_s, until_s)}"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_every_answer_is_200_and_says_that_it_is_degraded_until_redis_is_back(running: Running, fault: Fault) -> None:
    load, answers = loaded(running, lambda: running.faults.set(fault), lambda: running.faults.set("none"))
    require_answered(load)
    degraded, during = answers.degraded(FAULT_AT_S + KNOWN_AFTER_S, HEALED_AT_S - KNOWN_AFTER_S)
    assert degraded == during > 0, f"{during - degraded} of {during} answers did not say that they were degraded"
    require_whole(answers, 0.0, FAULT_AT_S - KNOWN_AFTER_S, "before anything was wrong")
    require_whole(answers, HEALED_AT_S + RECOVERY_S, SECONDS, f"{RECOVERY_S} s after it had healed")


def test_a_redis_that_lost_everything_is_answered_from_and_written_to_as_an_empty_one(running: Running) -> None:
    """Nobody can tell an emptied store from a new one, so nothing is degraded for long; and no answer fails."""
    load, answers = loaded(running, running.faults.flush_all, lambda: None)
    require_answered(load)
    require_whole(answers, FAULT_AT_S + RECOVERY_S, SECONDS, f"{RECOVERY_S} s after it was emptied")
