"""Who is asked while the encoder process hangs, under a clock of our own."""

from __future__ import annotations

import pytest

from recsys.errors import EncoderUnavailable
from serving.encoding.breaker import HANGS_IN_A_ROW, HANGS_S, PAUSE_S, HangBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_after_a_few_waits_in_vain_one_call_a_second_tries() -> None:
    clock = Clock()
    breaker = HangBreaker(clock)
    for _ in range(HANGS_IN_A_ROW):
        breaker.require_open()
        breaker.note_wait_in_vain(HANGS_S)
    with pytest.raises(EncoderUnavailable, match="hung a moment ago"):
        breaker.require_open()
    clock.now += PAUSE_S
    breaker.require_open()
    with pytest.raises(EncoderUnavailable):
        breaker.require_open()


def test_a_sign_of_life_lets_all_ask_again() -> None:
    breaker = HangBreaker(Clock())
    for _ in range(HANGS_IN_A_ROW):
        breaker.note_wait_in_vain(HANGS_S)
    breaker.note_sign_of_life()
    breaker.require_open()
    breaker.require_open()


def test_a_caller_with_little_time_says_nothing_about_the_process() -> None:
    breaker = HangBreaker(Clock())
    for _ in range(10 * HANGS_IN_A_ROW):
        breaker.note_wait_in_vain(HANGS_S / 2)
    breaker.require_open()
