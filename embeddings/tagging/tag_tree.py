"""The taxonomy in numbers: which tags stand above a tag, and which exclude it.

Letters: T tags, D the deepest tag's ancestors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.taxonomy import Taxonomy

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TagTree:
    """Tags by place; those that the taxonomy lacks stand alone, after it.

    Attributes:
        tags: `T` ids, in the taxonomy's order, then by name.
        ancestors: int64 [T, D], -1 where there are no more.
        group: int64 [T], -1 for tags that exclude no others.
        alphabetical: int64 [T], each tag's rank by name.
    """

    tags: tuple[str, ...]
    ancestors: Ints
    group: Ints
    alphabetical: Ints

    @staticmethod
    def of(taxonomy: Taxonomy, others: Iterable[str]) -> TagTree:
        tags = (*taxonomy.ids, *sorted(set(others) - set(taxonomy.ids)))
        place = {tag: at for at, tag in enumerate(tags)}
        above = [taxonomy.ancestors(tag) for tag in taxonomy.ids]
        ancestors = np.full((len(tags), max(map(len, above), default=0)), -1, np.int64)
        for row, names in enumerate(above):
            ancestors[row, : len(names)] = [place[name] for name in names]
        group = np.full(len(tags), -1, np.int64)
        for number, members in enumerate(taxonomy.groups.values()):
            group[[place[tag] for tag in members]] = number
        alphabetical = np.empty(len(tags), np.int64)
        alphabetical[sorted(range(len(tags)), key=tags.__getitem__)] = np.arange(len(tags))
        return TagTree(tags, ancestors, group, alphabetical)

    @property
    def size(self) -> int:
        return len(self.tags)

    @property
    def n_groups(self) -> int:
        return int(self.group.max(initial=-1)) + 1

    @cached_property
    def claims(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Of each tag: (group, member) for itself and all above it that are in one."""
        group = self.group.tolist()
        lines = np.column_stack([np.arange(self.size), self.ancestors]).tolist()
        return tuple(tuple((group[each], each) for each in line if each >= 0 and group[each] >= 0) for line in lines)

    def key(self, items: Ints, tags: Ints) -> Ints:
        """int64 [R]: one number for an item and a tag; `divmod` by `size` takes it apart."""
        return items * self.size + tags

    def with_ancestors(self, keys: Ints) -> tuple[Ints, Ints]:
        """Of R keys: (keys of the same items with these tags and all above them, each one's place among the R)."""
        items, tags = np.divmod(keys, max(self.size, 1))
        places = np.arange(len(keys))
        found, origins = [keys], [places]
        for column in self.ancestors.T:
            above = column[tags]
            there = above >= 0
            found.append(self.key(items[there], above[there]))
            origins.append(places[there])
        return np.concatenate(found), np.concatenate(origins)

    def group_key(self, keys: Ints) -> Ints:
        """int64 [R]: one number for an item and a group; -1 where the tag has none."""
        items, tags = np.divmod(keys, max(self.size, 1))
        group = self.group[tags]
        return np.where(group >= 0, items * self.n_groups + group, -1)


def distinct(keys: Ints) -> Ints:
    """Each key once, ascending; on millions of them several times as fast as numpy's hashing `unique`."""
    ordered = np.sort(keys)
    return ordered[np.flatnonzero(np.diff(ordered, prepend=-2))]


def among(keys: Ints, ascending: Ints) -> NDArray[np.bool_]:
    """bool [R]: which of the keys are among these, which ascend."""
    if not len(ascending):
        return np.zeros(len(keys), np.bool_)
    at = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == keys
    return found
