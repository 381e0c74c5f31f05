"""The word error rate, with the arithmetic left visible."""

from __future__ import annotations

import pytest

from tests.benchmarks._tagging.word_errors import error_rate, plain_words, word_errors


@pytest.mark.parametrize(
    ("said", "heard", "n_errors"),
    [
        ("the cat sat", "the cat sat", 0),
        ("The cat, sat!", "the CAT sat.", 0),
        ("the cat sat", "the hat sat", 1),
        ("the cat sat", "the cat", 1),
        ("the cat sat", "on the cat sat down", 2),
        ("the cat sat", "", 3),
        ("a b c d", "b c d e", 2),
        ("", "noise", 1),
    ],
)
def test_errors_are_the_fewest_changes_from_what_was_said_to_what_was_heard(
    said: str, heard: str, n_errors: int
) -> None:
    assert word_errors(said, heard) == (n_errors, len(said.split()))


def test_words_are_compared_without_case_and_punctuation_but_with_accents() -> None:
    assert plain_words("It’s SEVEN o'clock — mañana!") == ["it's", "seven", "o'clock", "mañana"]


def test_the_rate_counts_words_and_not_sentences() -> None:
    rate, low, high = error_rate([(1, 2), (0, 8)])
    assert rate == pytest.approx(1 / 10)
    assert (low, high) == pytest.approx((0 / 16, 2 / 4))
    assert error_rate([(1, 10)] * 5) == pytest.approx((0.1, 0.1, 0.1))
