"""A compact map from names to places in containers: 40 bytes an entry, because there are millions."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Place = tuple[int, int, int]
"""(container, and two numbers that say where in it)."""


@dataclass(frozen=True)
class Places:
    """Attributes:
    hashes: uint64 [N, 2], the 128-bit hashes of the names, sorted.
    places: int64 [N, 3].
    n_duplicates: names that were given again and passed over.
    """

    hashes: NDArray[np.uint64]
    places: NDArray[np.int64]
    n_duplicates: int

    def __len__(self) -> int:
        return len(self.places)

    def find(self, name: str) -> Place | None:
        high, low = np.frombuffer(_hash(name), dtype=np.uint64)
        row = int(np.searchsorted(self.hashes[:, 0], high))
        while row < len(self.hashes) and self.hashes[row, 0] == high:
            if self.hashes[row, 1] == low:
                container, first, second = self.places[row].tolist()
                return container, first, second
            row += 1
        return None


class PlacesBuilder:
    """Collects names; of one given twice the first counts."""

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._places = array("q")

    def add(self, name: str, place: Place) -> None:
        self._hashes += _hash(name)
        self._places.extend(place)

    def build(self) -> Places:
        hashes = np.frombuffer(bytes(self._hashes), dtype=np.uint64).reshape(-1, 2)
        places = np.frombuffer(self._places.tobytes(), dtype=np.int64).reshape(-1, 3)
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equals the first stays first
        hashes = hashes[order]
        is_first = np.ones(len(order), dtype=np.bool_)
        is_first[1:] = (hashes[1:] != hashes[:-1]).any(axis=1)
        # Columns apart, or each search would make its own copy of one.
        kept = np.asfortranarray(hashes[is_first])
        return Places(kept, places[order][is_first], int(len(order) - is_first.sum()))


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16).digest()
