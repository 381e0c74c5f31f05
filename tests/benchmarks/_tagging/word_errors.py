"""How wrong a transcript is: word error rate, with an interval."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np


def plain_words(text: str) -> list[str]:
    """Words without case and punctuation, apostrophes kept: what is compared."""
    letters = (
        letter if letter.isalnum() or letter == "'" or unicodedata.category(letter)[0] == "M" else " "
        for letter in unicodedata.normalize("NFC", text.casefold().replace("’", "'"))
    )
    return "".join(letters).split()


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """(insertions + deletions + substitutions of the cheapest way from one to the other, words that were said).

    Levenshtein's distance over words, by Wagner and Fischer (1974).
    """
    wanted, got = plain_words(said), plain_words(heard)
    costs = list(range(len(got) + 1))
    for row, word in enumerate(wanted, start=1):
        above, costs[0] = costs[0], row
        for column, other in enumerate(got, start=1):
            best = min(above + (word != other), costs[column] + 1, costs[column - 1] + 1)
            above, costs[column] = costs[column], best
    return costs[-1], len(wanted)


def error_rate(
    counts: Sequence[tuple[int, int]], *, n_bootstrap: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """(word error rate, low, high): errors / words over all, and 95 % of what other sentences would have given."""
    errors, words = np.array(counts, np.float64).reshape(-1, 2).T
    drawn = np.random.default_rng(seed).integers(0, len(errors), (n_bootstrap, len(errors)))
    rates = errors[drawn].sum(axis=1) / words[drawn].sum(axis=1)
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(errors.sum() / words.sum()), float(low), float(high)
