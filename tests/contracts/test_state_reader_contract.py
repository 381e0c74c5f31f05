"""What every reader of users' states promises (`recsys.ports.StateReader`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from recsys.ports import StateReader, Store
from recsys.storage.urls import open_state_reader, open_store
from tests.contracts.conftest import url_of
from tests.contracts.events import LATER, NOON_MS, event

T = TypeVar("T")


@pytest.fixture(params=["sqlite", "redis", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Store]]:
    url = url_of(request, request.param, tmp_path)
    store = open_store(url)
    yield url, store
    store.close()


def reading(opened: tuple[str, Store], read: Callable[[StateReader], Awaitable[T]]) -> T:
    async def run() -> T:
        reader = open_state_reader(*opened)
        try:
            return await read(reader)
        finally:
            await reader.close()

    return asyncio.run(run())


def test_an_unknown_user_has_version_0_and_the_empty_state(opened: tuple[str, Store]) -> None:
    packed = reading(opened, lambda reader: reader.packed_state("nobody", timeout_s=5))
    assert (packed.version, packed.unpack().history, len(packed.served)) == (0, (), 0)


def test_what_is_read_is_what_the_store_says(opened: tuple[str, Store]) -> None:
    store = opened[1]
    store.append([event(number) for number in range(300)])
    store.block("ann", ["i1", "i2"])
    packed = reading(opened, lambda reader: reader.packed_state("ann", timeout_s=5))
    expected, found = store.user_state("ann"), packed.unpack()
    assert (packed.version, found.version, found.history) == (expected.version, expected.version, expected.history)
    assert np.array_equal(found.seen, expected.seen)
    assert np.array_equal(found.blocked, expected.blocked)


def test_the_version_follows_each_event(opened: tuple[str, Store]) -> None:
    async def versions(reader: StateReader) -> list[int]:
        seen = []
        for number in range(5):
            opened[1].append([event(number)])
            seen.append((await reader.packed_state("ann", timeout_s=5)).version)
        return seen

    assert len(set(reading(opened, versions))) == 5


def test_many_reads_at_once_are_each_of_their_own_user(opened: tuple[str, Store]) -> None:
    opened[1].append([event(number, user=f"u{number}") for number in range(200)])

    async def all_at_once(reader: StateReader) -> list[str]:
        states = await asyncio.gather(*(reader.packed_state(f"u{n}", timeout_s=5) for n in range(200)))
        return [state.unpack().history[0].item_id for state in states]

    assert reading(opened, all_at_once) == [f"i{n}" for n in range(200)]


def test_what_was_served_comes_with_the_state_when_asked_for(opened: tuple[str, Store]) -> None:
    store = opened[1]
    store.append([event(1)])
    hashes = np.array([3, 2**64 - 1], np.uint64)
    store.note_served("ann", hashes, NOON_MS, 3_600)
    packed = reading(opened, lambda reader: reader.packed_state("ann", timeout_s=5, with_served=True))
    state = packed.unpack()
    assert packed.version == state.version == store.user_state("ann").version
    assert packed.served.tolist() == state.served.tolist() == hashes.tolist()
    assert packed.served_at_ms.tolist() == state.served_at_ms.tolist() == [NOON_MS] * 2
    without = reading(opened, lambda reader: reader.packed_state("ann", timeout_s=5))
    assert len(without.served) == len(without.served_at_ms) == len(without.unpack().served) == 0


def test_an_erased_user_is_unknown_to_a_reader(opened: tuple[str, Store]) -> None:
    async def before_and_after(reader: StateReader) -> tuple[int, int, int]:
        opened[1].append([event(1)])
        opened[1].note_served("ann", np.array([3], np.uint64), NOON_MS, 3_600)
        before = await reader.packed_state("ann", timeout_s=5, with_served=True)
        opened[1].erase_user("ann", now=LATER)
        after = await reader.packed_state("ann", timeout_s=5, with_served=True)
        return before.version, after.version, len(after.served)

    before, after, n_served = reading(opened, before_and_after)
    assert (before != 0, after, n_served) == (True, 0, 0)
