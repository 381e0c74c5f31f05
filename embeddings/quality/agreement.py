"""Whether two contents are nearly the same, judged by the contents and not by their vectors."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embeddings.quality.near_duplicates import NO, UNKNOWN, YES, Judge, Rows
from embeddings.quality.pictures import SIGNATURE_SIDE, Looks

MIN_CORRELATION = 0.85
"""Of two pictures' brightness in 16 x 16 cells. Posters made smaller, cropped by 2 % or compressed again have .94 and
more; pairs of unlike posters stay below .60 among the nearest by vector, and below .70 for 999 of 1,000 random ones."""

MIN_SHARED_WORDS = 0.5
"""Jaccard index of two texts' pairs of successive words. Texts with a title or sentence changed have .86 and more,
plots of a film and its sequel or remake .12 and less."""

_FLAT_SPREAD = 4.0
_SAME_COLOUR_LEVELS = 12.0
_WORD = re.compile(r"\w+")


def pictures_agree(looks: Looks) -> Judge:
    """UNKNOWN where one of the two was not looked at."""
    brightness = looks.signatures.astype(np.float32).mean(axis=3).reshape(len(looks.rows), SIGNATURE_SIDE**2)
    colours = looks.signatures.astype(np.float32).mean(axis=(1, 2))

    def judge(pairs: Rows) -> NDArray[np.int8]:
        verdicts = np.full(len(pairs), UNKNOWN, dtype=np.int8)
        if not len(looks.rows):
            return verdicts
        places = np.minimum(np.searchsorted(looks.rows, pairs), len(looks.rows) - 1)
        for at in np.flatnonzero((looks.rows[places] == pairs).all(axis=1)).tolist():
            a, b = places[at].tolist()
            verdicts[at] = YES if _alike(brightness[a], brightness[b], colours[a], colours[b]) else NO
        return verdicts

    return judge


_Figures = NDArray[np.float32]


def _alike(a: _Figures, b: _Figures, colour_a: _Figures, colour_b: _Figures) -> bool:
    if max(float(a.std()), float(b.std())) < _FLAT_SPREAD:  # a correlation of noise: the colour tells
        return float(np.abs(colour_a - colour_b).max()) <= _SAME_COLOUR_LEVELS
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) >= MIN_CORRELATION * float(np.sqrt((a @ a) * (b @ b))) > 0.0


def texts_agree(text_of: Callable[[int], str | None]) -> Judge:
    """`text_of` gives the text of an item row as it was encoded; UNKNOWN where there is none."""

    def judge(pairs: Rows) -> NDArray[np.int8]:
        verdicts = np.full(len(pairs), UNKNOWN, dtype=np.int8)
        for at, (a, b) in enumerate(pairs.tolist()):
            one, other = text_of(a), text_of(b)
            if one is not None and other is not None:
                verdicts[at] = YES if shared_words(one, other) >= MIN_SHARED_WORDS else NO
        return verdicts

    return judge


def shared_words(one: str, other: str) -> float:
    """Jaccard index of the sets of successive word pairs, 0..1; of single words where a text has only one."""
    a, b = _WORD.findall(one.casefold()), _WORD.findall(other.casefold())
    length = min(len(a), len(b), 2)
    if length == 0:
        return float(one == other)
    first = {tuple(a[at : at + length]) for at in range(len(a) - length + 1)}
    second = {tuple(b[at : at + length]) for at in range(len(b) - length + 1)}
    return len(first & second) / len(first | second)


def nothing_agrees(pairs: Rows) -> NDArray[np.int8]:
    """The judge where contents cannot be compared: only vectors tell."""
    return np.full(len(pairs), UNKNOWN, dtype=np.int8)
