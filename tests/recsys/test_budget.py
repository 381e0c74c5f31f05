"""Budgets by a clock of our own: what is too slow is left out, and tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.budget import FORGOTTEN_SHARE, N_LATEST, UNLIMITED, Budget, StageCosts
from recsys.trace import StageTrace


class Clock:
    """Seconds; moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Requests:
    """A series of requests whose one stage takes so long."""

    def __init__(self, budget_ms: float = 50.0) -> None:
        self.clock, self.costs, self.budget_ms = Clock(), StageCosts(), budget_ms

    def next(self, stage_ms: float, *, spent_ms: float = 0.0, fails: bool = False) -> bool:
        """Whether the stage was tried."""
        budget = Budget(self.budget_ms, self.costs, spent_ms=spent_ms, clock=self.clock)
        tried = budget.affords("encode")
        if tried:
            self.clock.now += stage_ms / 1e3
        fallback = "failed" if fails else "" if tried else "no_time"
        self.costs.note([StageTrace("encode", stage_ms if tried else 0.01, 1, 1, fallback)], budget.tried)
        return tried


def test_a_budget_runs_out_with_the_clock() -> None:
    clock = Clock()
    budget = Budget(50, StageCosts(), spent_ms=20, clock=clock)
    assert budget.remaining_ms == pytest.approx(30)
    clock.now += 0.04
    assert budget.remaining_ms == pytest.approx(-10)


def test_a_stage_that_was_never_seen_is_tried_while_there_is_time() -> None:
    clock = Clock()
    budget = Budget(50, StageCosts(), clock=clock)
    assert budget.affords("encode")
    clock.now += 0.051
    assert not budget.affords("encode")
    assert budget.tried == {"encode"}


def test_a_stage_that_is_too_slow_is_left_out_from_the_second_request_on() -> None:
    requests = Requests()
    assert [requests.next(200) for _ in range(5)] == [True, False, False, False, False]


def test_what_fits_is_never_left_out() -> None:
    requests = Requests()
    assert all(requests.next(40) for _ in range(100))
    assert not requests.next(40, spent_ms=20)


def test_a_stage_that_becomes_slow_is_left_out_after_a_few_requests_and_one_hiccup_changes_nothing() -> None:
    requests = Requests()
    assert all(requests.next(2) for _ in range(20))
    requests.next(200)
    assert requests.next(2)
    assert [requests.next(200) for _ in range(6)].count(True) <= 3


def test_what_is_still_slow_is_tried_now_and_then_and_left_alone_for_as_long_again() -> None:
    requests = Requests()
    tried = [number for number in range(200) if requests.next(200)]
    pauses = {later - earlier for earlier, later in pairwise(tried)}
    assert len(tried) > 3
    assert len(pauses) == 1
    assert min(pauses) > 20


def test_what_has_become_fast_again_is_tried_always_from_the_first_try_on() -> None:
    requests = Requests()
    requests.next(400)
    first = next(number for number in range(200) if requests.next(1))
    assert first > 20
    assert requests.costs.expected_ms("encode") == 1
    assert all(requests.next(1) for _ in range(50))


@pytest.mark.parametrize("n_pauses", range(1, (N_LATEST + 1) // 2))
def test_pauses_of_the_machine_leave_nothing_out(n_pauses: int) -> None:
    requests = Requests()
    times = [2.0] * (N_LATEST - n_pauses) + [10_000.0] * n_pauses
    assert all(requests.next(stage_ms) for _ in range(10) for stage_ms in times)


def test_the_expectation_is_the_median_of_the_last_times() -> None:
    costs = StageCosts()
    for expected, duration_ms in ((10, 10), (10, 20), (12, 12), (12, 30), (20, 40), (30, 50)):
        costs.note([StageTrace("rank", duration_ms, 1, 1)], {"rank"})
        assert costs.expected_ms("rank") == expected
    costs.note_skipped("rank")
    assert costs.expected_ms("rank") == pytest.approx(30 * (1 - FORGOTTEN_SHARE))


def test_stages_that_fell_back_or_were_not_tried_teach_nothing() -> None:
    costs = StageCosts()
    costs.note([StageTrace("encode", 80, 1, 1)], {"encode"})
    for _ in range(100):  # a query vector out of the cache, and a tower that fails at once
        costs.note([StageTrace("encode", 0.001, 1, 1)], ())
        costs.note([StageTrace("encode", 0.001, 1, 0, "query_tower_failed")], {"encode"})
    assert costs.expected_ms("encode") == 80


def test_stages_are_told_apart() -> None:
    costs = StageCosts()
    costs.note([StageTrace("encode", 80, 1, 1), StageTrace("rank", 1, 1, 1)], {"encode", "rank"})
    budget = Budget(50, costs, clock=Clock())
    assert not budget.affords("encode")
    assert budget.affords("rank")


def test_without_a_limit_everything_is_affordable() -> None:
    assert UNLIMITED.affords("anything")


@given(times=st.lists(st.floats(0, 1000), min_size=1, max_size=100))
def test_the_expectation_lies_between_nothing_and_the_slowest(times: list[float]) -> None:
    requests = Requests()
    for stage_ms in times:
        requests.next(stage_ms)
        assert 0 <= requests.costs.expected_ms("encode") <= max(times) * 1.000001
