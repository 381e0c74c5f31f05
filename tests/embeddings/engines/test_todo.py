"""The plan on disk and its leases: each shard has one worker at a time, and a deadly one is left in the end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from embeddings.contents import Candidate
from embeddings.engines.leases import Leases
from embeddings.engines.todo import MAX_TRIES, Lease, Planned, Todo


def planned(number: int) -> list[Planned]:
    return [Planned(Candidate(f"item-{number}-{at}", "", bytes([number, at] * 16)), f"text {at}") for at in range(3)]


@pytest.fixture
def todo(tmp_path: Path) -> Todo:
    """Shards 4 to 7, and no more will come."""
    found = Todo(tmp_path)
    for number in range(4, 8):
        found.write(number, planned(number))
    found.complete()
    return found


def test_a_plan_is_read_as_it_was_written(todo: Todo) -> None:
    lease = todo.lease(5)
    assert lease is not None
    assert lease.contents() == planned(5)
    assert todo.remaining() == [4, 5, 6, 7]
    lease.finish()
    assert todo.remaining() == [4, 6, 7]


def test_a_shard_has_one_worker_at_a_time(todo: Todo) -> None:
    lease = todo.lease(4)
    assert lease is not None
    assert todo.lease(4) is None
    lease.close()
    again = todo.lease(4)
    assert again is not None
    again.finish()
    assert todo.lease(4) is None


def test_many_workers_take_each_shard_once(tmp_path: Path) -> None:
    todo, taken, mutex = Todo(tmp_path), [], threading.Lock()
    for number in range(60):
        todo.write(number, planned(number))
    todo.complete()

    def work() -> None:
        leases = Leases(todo)
        for lease in leases:
            with mutex:
                taken.append(lease.number)
            lease.finish()
            leases.closed()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(taken) == list(range(60))


def die_at(todo: Todo, number: int) -> None:
    """A worker takes a shard, and the kernel takes its lease away."""
    lease = next(iter(Leases(todo, numbers=[number])))
    lease.close()


def test_a_shard_at_which_workers_died_is_left_after_the_last_try(todo: Todo) -> None:
    for _ in range(MAX_TRIES):
        die_at(todo, 6)
    leases = Leases(todo)
    assert list(_all_of(leases)) == [4, 5, 7]
    assert leases.left == [6]


def test_a_shard_that_is_finished_is_not_held_against_its_successor(todo: Todo) -> None:
    die_at(todo, 4)
    assert list(_all_of(Leases(todo))) == [4, 5, 6, 7]
    assert not list(todo.folder.glob("*.tries"))


def test_a_suspect_is_worked_on_alone(todo: Todo) -> None:
    die_at(todo, 5)
    leases = Leases(todo)
    stream = iter(leases)
    first = next(stream)
    assert first.number == 4

    ahead: list[Lease] = []
    reader = threading.Thread(target=lambda: ahead.append(next(stream)))
    reader.start()
    reader.join(0.3)
    assert not ahead, "the suspect was taken beside another"
    first.finish()
    leases.closed()
    reader.join()
    assert [lease.number for lease in ahead] == [5]

    reader = threading.Thread(target=lambda: ahead.append(next(stream)))
    reader.start()
    reader.join(0.3)
    assert len(ahead) == 1, "another was taken beside the suspect"
    ahead[0].finish()
    leases.closed()
    reader.join()
    assert [lease.number for lease in ahead] == [5, 6]


def test_leases_end_when_the_job_does(tmp_path: Path) -> None:
    todo, alive = Todo(tmp_path), [True]
    todo.write(0, planned(0))
    leases = Leases(todo, is_wanted=lambda: alive[0])  # not complete: more may come
    stream = iter(leases)
    next(stream).finish()
    alive.clear()
    alive.append(False)
    assert list(stream) == []


def test_a_plan_that_was_thrown_away_is_no_longer_current(todo: Todo) -> None:
    lease = todo.lease(4)
    assert lease is not None
    todo.remove()
    assert not lease.is_current
    todo.write(4, planned(9))
    assert not lease.is_current
    lease.finish()
    assert todo.remaining() == [4]


def _all_of(leases: Leases) -> Iterator[int]:
    for lease in leases:
        yield lease.number
        lease.finish()
        leases.closed()
