"""Caps: which candidates may still be chosen when some of their kind were."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from recsys.reranking.config import Cap

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Groups = NDArray[np.int32]
GroupsOf = Callable[[str, Rows], Groups]
"""(column, item rows int64 [C]) → codes int32 [C, G] of what an item has there, -1 where it has fewer."""


class OpenCaps:
    """What the caps of one slate still let through."""

    def __init__(self, caps: Sequence[Cap], rows: Rows, groups_of: GroupsOf) -> None:
        """`rows` int64 [C], the candidates that may be counted or chosen."""
        self.open: Mask = np.ones(len(rows), dtype=np.bool_)
        self.full_by = np.full(len(rows), -1, dtype=np.int64)
        self._codes = [groups_of(cap.column, rows) for cap in caps]
        self._caps = caps
        self._counts: list[dict[int, int]] = [{} for _ in caps]

    def count(self, at: int) -> None:
        """Candidate `at` is in the slate: count it, and close what is full then. `full_by` names the cap."""
        for number, (cap, codes, counts) in enumerate(zip(self._caps, self._codes, self._counts, strict=True)):
            for code in codes[at].tolist():
                if code < 0:
                    continue
                counts[code] = counts.get(code, 0) + 1
                if counts[code] == cap.max:
                    shut = (codes == code).any(axis=1)
                    self.full_by[shut & self.open] = number
                    self.open &= ~shut
