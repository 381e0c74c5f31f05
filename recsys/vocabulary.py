"""item_id ↔ item_row: a bijection between external strings and dense int64 rows, with a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from recsys.events import hash64


class Vocabulary:
    """Rows are the positions in `item_ids`; frozen once made.

    Attributes:
        item_ids: the external ids, row after row.
        checksum: sha256 over the ids in order, each with its length, so that no two lists collide by joining.
    """

    def __init__(self, item_ids: Sequence[str]) -> None:
        """Raises ValueError when an id occurs twice."""
        self.item_ids: tuple[str, ...] = tuple(item_ids)
        self._row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        if len(self._row_of) != len(self.item_ids):
            raise ValueError("an item_id occurs twice; validate the catalogue first")
        digest = hashlib.sha256()
        for item_id in self.item_ids:
            encoded = item_id.encode()
            digest.update(len(encoded).to_bytes(4, "little") + encoded)
        self.checksum = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.item_ids)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._row_of

    def row(self, item_id: str) -> int | None:
        """The row of an id, or None when this vocabulary does not know it."""
        return self._row_of.get(item_id)

    def rows(self, item_ids: Iterable[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        """Rows of the known ids in order (int64), and the unknown ids."""
        known: list[int] = []
        unknown: list[str] = []
        for item_id in item_ids:
            row = self._row_of.get(item_id)
            if row is None:
                unknown.append(item_id)
            else:
                known.append(row)
        return np.asarray(known, dtype=np.int64), tuple(unknown)

    def rows_or(self, item_ids: Sequence[str], unknown: int) -> list[int]:
        """The row of each id, `unknown` for what this vocabulary does not know."""
        return list(map(self._row_of.get, item_ids, repeat(unknown, len(item_ids))))

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """uint64 [N], `hash64` of each id: how seen items are matched without strings."""
        return np.fromiter((hash64(item_id) for item_id in self.item_ids), dtype=np.uint64, count=len(self))
