from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from serving.pace import Patience, spread


@given(st.floats(0.001, 1e6), st.integers(0, 2**32))
def test_a_spread_wait_is_off_by_a_quarter_at_most(seconds: float, seed: int) -> None:
    assert 0.75 * seconds <= spread(seconds, random.Random(seed).random) <= 1.25 * seconds


def test_two_processes_do_not_ask_in_step() -> None:
    waits = {spread(1.0, random.Random(seed).random) for seed in range(100)}
    assert len(waits) == 100


def test_the_wait_doubles_with_each_failure_up_to_a_limit_and_starts_anew_after_a_success() -> None:
    now = 0.0
    patience = Patience(1.0, 5.0, draw=lambda: 0.5, clock=lambda: now)

    def wait_s() -> float:
        """How long it says to wait, in steps that floats hold exactly."""
        nonlocal now
        start = now
        while not patience.is_due:
            now += 0.125
        return now - start

    assert (patience.is_due, patience.is_failing) == (True, False)
    waits = []
    for _ in range(5):
        patience.failed()
        waits.append(wait_s())
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert patience.is_failing
    patience.succeeded()
    assert (patience.is_due, patience.is_failing) == (True, False)
    patience.failed()
    assert wait_s() == 1.0
