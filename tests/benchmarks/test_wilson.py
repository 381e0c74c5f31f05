"""The benchmark's intervals."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks._tagging.wilson import wilson


def test_an_interval_ends_where_its_share_is_just_believable() -> None:
    # Wilson's interval holds the shares p with |found - p| <= z sqrt(p (1 - p) / n).
    for n_right, n in ((432, 500), (1, 10), (0, 20), (20, 20)):
        for end in wilson(n_right, n, z=2.0):
            assert abs(n_right / n - end) == pytest.approx(2.0 * math.sqrt(max(end * (1 - end), 0) / n), abs=1e-9)
    low, high = wilson(432, 500)
    assert low < 432 / 500 < high
