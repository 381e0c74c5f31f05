from __future__ import annotations

import threading

import numpy as np
import pytest

from recsys.live import view_of
from recsys.ports import LiveItem
from serving.guards import FAILURES_IN_A_ROW, PAUSE_S, Guard, IndexGuard, OnlineRecall
from tests.serving.shop import shop
from tests.worlds.families import axis_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def broken(clock: Clock) -> Guard:
    guard = Guard(clock)
    for _ in range(FAILURES_IN_A_ROW):
        assert guard.works()
        guard.note(False)
    return guard


def test_after_three_failures_in_a_row_nobody_asks_for_a_while(clock: Clock) -> None:
    guard = broken(clock)
    clock.now += PAUSE_S * 0.99
    assert not guard.works()


def test_failures_between_successes_break_nothing(clock: Clock) -> None:
    guard = Guard(clock)
    for worked in [False, False, True] * 10:
        assert guard.works()
        guard.note(worked)


def test_after_the_pause_one_tries_and_the_others_go_on_without(clock: Clock) -> None:
    guard = broken(clock)
    clock.now += PAUSE_S
    assert [guard.works() for _ in range(5)] == [True, False, False, False, False]


def test_a_try_that_works_closes_it_again_for_all(clock: Clock) -> None:
    guard = broken(clock)
    clock.now += PAUSE_S
    assert guard.works()
    guard.note(True)
    assert all(guard.works() for _ in range(5))
    guard.note(False)
    assert guard.works()


def test_a_try_that_fails_begins_the_pause_anew(clock: Clock) -> None:
    guard = broken(clock)
    clock.now += PAUSE_S
    assert guard.works()
    clock.now += 0.5
    guard.note(False)
    clock.now += PAUSE_S * 0.99
    assert not guard.works()
    clock.now += PAUSE_S * 0.02
    assert guard.works()


def test_a_try_that_never_ends_is_followed_by_another(clock: Clock) -> None:
    guard = broken(clock)
    clock.now += PAUSE_S
    assert guard.works()
    clock.now += PAUSE_S
    assert guard.works()


def test_of_many_threads_one_tries(clock: Clock) -> None:
    guard = broken(clock)
    clock.now += PAUSE_S
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(guard.works())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(True) == 1


CATALOG = view_of(shop())
TOWARDS = axis_of("gamma")


def nearest(k: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    rows: np.ndarray[tuple[int], np.dtype[np.int64]] = CATALOG.index.search(TOWARDS[None, :], k)[0][0]
    return rows


@pytest.mark.parametrize("n_wrong", [0, 1, 5, 10])
def test_online_recall_is_the_share_of_the_true_neighbours_that_were_answered(n_wrong: int) -> None:
    measured: list[float] = []
    recall = OnlineRecall(measured.append, every_s=1e-9, k=10)
    wrong = np.flatnonzero(~np.isin(np.arange(30), nearest(10)))[:n_wrong]
    recall.offer(CATALOG, TOWARDS, np.concatenate([nearest(10)[: 10 - n_wrong], wrong]))
    assert recall.measure_one()
    assert measured == [pytest.approx(1 - n_wrong / 10)]
    assert not recall.measure_one()


def test_only_the_best_k_are_compared() -> None:
    measured: list[float] = []
    recall = OnlineRecall(measured.append, every_s=1e-9, k=10)
    recall.offer(CATALOG, TOWARDS, np.concatenate([nearest(5), nearest(30)[15:30]]))
    recall.measure_one()
    assert measured == [pytest.approx(0.5)]


def test_what_nobody_may_see_does_not_count_as_missed() -> None:
    best = int(nearest(1)[0])
    changes = [LiveItem(CATALOG.item_id(best), {"hidden": True}, {}, {}), LiveItem("placeless", {"title": "?"}, {}, {})]
    changed = view_of(CATALOG.release, changes, 1)
    away = -TOWARDS  # nothing lies there, so that an item without a place would be among the nearest
    for query in (TOWARDS, away):
        measured: list[float] = []
        recall = OnlineRecall(measured.append, every_s=1e-9, k=10)
        recall.offer(changed, query, changed.index.search(query[None, :], 10)[0][0])
        assert recall.measure_one()
        assert measured == [1.0]


def test_one_waits_at_a_time_and_none_where_it_is_switched_off() -> None:
    measured: list[float] = []
    recall = OnlineRecall(measured.append, every_s=1e-9)
    for _ in range(5):
        recall.offer(CATALOG, TOWARDS, nearest(10))
    assert [recall.measure_one() for _ in range(3)] == [True, False, False]
    off = OnlineRecall(measured.append, every_s=0)
    off.offer(CATALOG, TOWARDS, nearest(10))
    assert not off.measure_one()
    rarely = IndexGuard(OnlineRecall(measured.append, every_s=3600))
    rarely.answered(CATALOG, TOWARDS, nearest(10))
    rarely.answered(CATALOG, TOWARDS, nearest(10))
    assert len(measured) == 1
