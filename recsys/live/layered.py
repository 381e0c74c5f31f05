"""A mapping that never changes, and whose changed copies cost what changed: the rest is shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
MOST_RECENT = 1024
"""Entries that a change may copy; beyond it everything is copied once."""


class Layered(Mapping[K, V], Generic[K, V]):
    """Some recent entries over many older ones. Keys come in the order of their first entry."""

    __slots__ = ("_n", "_older", "_recent")

    def __init__(self, older: Mapping[K, V] | None = None, recent: Mapping[K, V] | None = None) -> None:
        """Neither mapping may change from now on."""
        self._older: Mapping[K, V] = {} if older is None else older
        self._recent: Mapping[K, V] = {} if recent is None else recent
        self._n = len(self._older) + sum(key not in self._older for key in self._recent)

    def with_entries(self, entries: Mapping[K, V]) -> Layered[K, V]:
        """A mapping with these over its own, which stays as it is."""
        recent = {**self._recent, **entries}
        if len(recent) <= MOST_RECENT:
            return Layered(self._older, recent)
        return Layered({**self._older, **recent})

    def __getitem__(self, key: K) -> V:
        return self._recent[key] if key in self._recent else self._older[key]

    def __contains__(self, key: object) -> bool:
        return key in self._recent or key in self._older

    def __iter__(self) -> Iterator[K]:
        yield from self._older
        yield from (key for key in self._recent if key not in self._older)

    def __len__(self) -> int:
        return self._n
