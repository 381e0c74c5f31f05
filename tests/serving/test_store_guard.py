"""A store that hangs, under a clock of our own: each hanging call costs half a second of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from recsys.errors import StoreUnavailable
from recsys.events import Exposure
from recsys.ports import Store, UserState
from recsys.storage.memory_store import MemoryStore
from serving.store_guard import HANGS_IN_A_ROW, PAUSE_S, GuardedStore
from serving.telemetry import LOGGER


class Hanging(MemoryStore):
    """Counts what it is asked; `costs_s` passes before it fails, None = it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.costs_s: float | None = None
        self.asked = 0

    def user_state(self, user_id: str, with_served: bool = False) -> UserState:
        self.asked += 1
        if self.costs_s is not None:
            self.now += self.costs_s
            raise StoreUnavailable("Redis at 10.1.2.3 did not answer in 0.5 s")
        return super().user_state(user_id, with_served)


@pytest.fixture
def store() -> Hanging:
    return Hanging()


@pytest.fixture
def guarded(store: Hanging) -> GuardedStore:
    return GuardedStore(store, clock=lambda: store.now)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The messages of the service's log."""
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage() + " " + json.dumps(getattr(record, "fields", {})))

    handler = Keep()
    LOGGER.addHandler(handler)
    yield found
    LOGGER.removeHandler(handler)


def fail(guarded: GuardedStore, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreUnavailable):
            guarded.user_state("u")


def test_a_store_that_hangs_is_asked_a_few_times_and_then_once_in_a_while(
    guarded: GuardedStore, store: Hanging
) -> None:
    store.costs_s = 0.5
    fail(guarded, 50)
    assert store.asked == HANGS_IN_A_ROW
    assert store.now == 100.0 + HANGS_IN_A_ROW * 0.5, "the other calls waited for nothing"
    store.now += PAUSE_S
    fail(guarded, 50)
    assert store.asked == HANGS_IN_A_ROW + 1


def test_it_is_asked_by_all_again_as_soon_as_it_answers_one(guarded: GuardedStore, store: Hanging) -> None:
    store.costs_s = 0.5
    fail(guarded, 50)
    store.costs_s = None
    store.now += PAUSE_S
    for _ in range(5):
        guarded.user_state("u")
    assert store.asked == HANGS_IN_A_ROW + 5


def test_a_store_that_refuses_at_once_is_always_asked(guarded: GuardedStore, store: Hanging) -> None:
    store.costs_s = 0.001
    fail(guarded, 50)
    assert store.asked == 50


def test_a_kind_of_call_that_hangs_does_not_stop_the_others(guarded: GuardedStore, store: Hanging) -> None:
    store.costs_s = 0.5
    fail(guarded, 10)
    guarded.append_exposure(Exposure("r", None, None, datetime(2026, 5, 1, tzinfo=UTC), "release", (), (), ()))
    assert len(list(store.exposures())) == 1


def test_why_it_failed_is_in_the_log_and_not_once_for_every_request(
    guarded: GuardedStore, store: Hanging, lines: list[str]
) -> None:
    store.costs_s = 0.001
    fail(guarded, 100)
    assert len(lines) == 1
    assert "10.1.2.3" in lines[0]
    assert "user_state" in lines[0]


def test_every_method_of_the_port_is_passed_on(store: Hanging, guarded: GuardedStore) -> None:
    missing = [name for name in dir(Store) if not name.startswith("_") and name not in vars(GuardedStore)]
    assert missing == []
    now = datetime(2024, 5, 1, tzinfo=UTC)
    guarded.note_served("anon", np.array([7], np.uint64), 5, 60)
    assert guarded.merge_users("anon", "ann", now=now).version == 0
    assert guarded.user_state("ann", with_served=True).served.tolist() == [7]
    assert [merge.target_user_id for merge in guarded.merges()] == ["ann"]
    guarded.block("ann", ["i1"])
    guarded.unblock("ann", ["i1"])
    assert len(guarded.user_state("ann").blocked) == 0
    assert guarded.append_exposures([]).n_stored == 0
    assert guarded.delete_items(["i1"]) == 1
    assert guarded.trending(0, 60, 5)[0] == ()
    assert guarded.erase_user("ann", now=now).n_merges == 1
