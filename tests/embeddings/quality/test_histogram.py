"""A histogram is drawn of whatever similarities there are: none, or all the same."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.quality.report import histogram


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0]])
def test_no_values_and_equal_values_have_a_histogram(values: list[float]) -> None:
    drawn = histogram(np.array(values, np.float32), 1.0, 1.0)
    assert drawn["low"] < drawn["high"]
    assert sum(drawn["counts"]) == len(values)


def test_what_lies_outside_counts_in_the_outermost_bins() -> None:
    drawn = histogram(np.array([-1.0, 0.5, 2.0], np.float32), 0.0, 1.0)
    assert (drawn["counts"][0], drawn["counts"][-1], sum(drawn["counts"])) == (1, 1, 3)
