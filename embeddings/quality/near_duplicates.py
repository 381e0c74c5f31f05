"""Items with the same content, and items with nearly the same.

Vectors propose pairs: neighbours nearer than chance (`nearest.chance_level`). But a sequel's plot or two covers from
one template are nearer than chance too, so the contents themselves decide: the pictures' pixels, the texts' words
(`agreement`). Where nothing can decide, only very near vectors count, and the group says that it was not checked.

Letters: N items, C distinct contents, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embeddings.quality.nearest import UNCALIBRATED_SIMILARITY, Chance, Nearest, OnProgress, chance_level, nearest

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

YES, NO, UNKNOWN = 1, 0, -1
Judge = Callable[[Rows], NDArray[np.int8]]
"""Pairs of item rows int64 [P, 2] → YES, NO or UNKNOWN int8 [P]: whether the contents are nearly the same."""


@dataclass(frozen=True)
class Member:
    """One item of a group.

    Attributes:
        row: of the item.
        similarity: cosine with the group's first item.
        same: its content is that of the first item, as far as the encoder can see.
        checked: the contents were compared, not only the vectors.
    """

    row: int
    similarity: float
    same: bool
    checked: bool


@dataclass(frozen=True)
class Candidates:
    """What vectors alone tell.

    Attributes:
        n_items: items that have a vector.
        copies: item row of each distinct content's first item → rows of all items with it, ascending.
        firsts: int64 [C], its keys in order.
        neighbours: of the distinct contents among each other; rows are places in `firsts`.
        chance: how near is nearer than chance.
        pairs: int64 [P, 2], item rows of distinct contents nearer than chance, the nearest pair first.
        similarities: float32 [P].
    """

    n_items: int
    copies: dict[int, list[int]]
    firsts: Rows
    neighbours: Nearest
    chance: Chance
    pairs: Rows
    similarities: Vectors

    @property
    def rows_to_look_at(self) -> Rows:
        """int64, item rows whose contents decide: the nearest pairs first, then what several items share."""
        shared = [first for first, rows in self.copies.items() if len(rows) > 1]
        rows = np.concatenate([self.pairs.ravel(), np.array(shared, dtype=np.int64)])
        _, at = np.unique(rows, return_index=True)
        ordered: Rows = rows[np.sort(at)]
        return ordered


@dataclass(frozen=True)
class Duplicates:
    """Groups, the largest first, each item in one group at most; and what became of the pairs."""

    candidates: Candidates
    groups: tuple[tuple[Member, ...], ...] = field(default=())
    n_pairs_unlike: int = 0
    n_pairs_unchecked: int = 0

    @property
    def n_same_groups(self) -> int:
        return sum(all(member.same for member in group) for group in self.groups)


def find_candidates(
    vectors: NDArray[np.float16] | Vectors, rows: Rows, *, threads: int = 1, on_progress: OnProgress | None = None
) -> Candidates:
    """What is the same by its vector, and which pairs are nearer than chance.

    Args:
        vectors: [R, D], L2-normalised and finite.
        rows: int64 [R], the item row of each, ascending.
        threads: that search at a time.
    """
    copies = _copies(vectors, rows)
    firsts = np.fromiter(copies, dtype=np.int64, count=len(copies))
    distinct = np.ascontiguousarray(vectors[np.searchsorted(rows, firsts)], dtype=np.float32)
    found = nearest(distinct, threads=threads, on_progress=on_progress)
    chance = chance_level(found.similarities)
    at, place = np.nonzero(found.similarities >= chance.similarity)
    pairs = np.sort(np.stack([at, found.rows[at, place]], axis=1), axis=1)
    pairs, first_seen = np.unique(pairs, axis=0, return_index=True)
    similarities = found.similarities[at, place][first_seen]
    order = np.argsort(-similarities, kind="stable")
    return Candidates(len(rows), copies, firsts, found, chance, firsts[pairs[order]], similarities[order])


def _copies(vectors: NDArray[np.float16] | Vectors, rows: Rows) -> dict[int, list[int]]:
    """Rows by equal vectors. Equal contents were encoded once, so their float16 vectors are equal to the last bit."""
    of_vector: dict[bytes, int] = {}
    copies: dict[int, list[int]] = {}
    for place, row in enumerate(rows.tolist()):
        key = np.asarray(vectors[place], dtype=np.float16).tobytes()
        copies.setdefault(of_vector.setdefault(key, row), []).append(row)
    return copies


def group_duplicates(candidates: Candidates, judge: Judge) -> Duplicates:
    """Keep the pairs that `judge` confirms, and part them into groups.

    A group is an item and those that are near to *it*: the content with the most partners takes them, then the next
    among those left. So no chain of small steps joins what is unlike at its ends.
    """
    verdicts = judge(candidates.pairs) if len(candidates.pairs) else np.empty(0, dtype=np.int8)
    near = candidates.similarities >= UNCALIBRATED_SIMILARITY
    kept = (verdicts == YES) | ((verdicts == UNKNOWN) & near)
    partners: dict[int, dict[int, tuple[float, bool]]] = {}
    for place in np.flatnonzero(kept).tolist():
        a, b = candidates.pairs[place].tolist()
        link = (float(candidates.similarities[place]), bool(verdicts[place] == YES))
        partners.setdefault(a, {})[b] = link
        partners.setdefault(b, {})[a] = link
    groups = _groups(candidates.copies, partners)
    return Duplicates(
        candidates,
        tuple(sorted(groups, key=lambda group: (-len(group), group[0].row))),
        n_pairs_unlike=int((verdicts == NO).sum()),
        n_pairs_unchecked=int((verdicts == UNKNOWN).sum()),
    )


def _groups(
    copies: dict[int, list[int]], partners: dict[int, dict[int, tuple[float, bool]]]
) -> list[tuple[Member, ...]]:
    taken: set[int] = set()
    groups = []
    for head in sorted(partners, key=lambda row: (-len(partners[row]), row)):
        mine = [row for row in partners[head] if row not in taken]
        if head in taken or not mine:
            continue
        taken |= {head, *mine}
        members = _members(copies[head], 1.0, same=True, checked=True)
        for row in sorted(mine, key=lambda row: (-partners[head][row][0], row)):
            similarity, checked = partners[head][row]
            members += _members(copies[row], similarity, same=False, checked=checked)
        groups.append(tuple(members))
    for first, rows in copies.items():
        if first not in taken and len(rows) > 1:
            groups.append(tuple(_members(rows, 1.0, same=True, checked=True)))
    return groups


def _members(rows: list[int], similarity: float, *, same: bool, checked: bool) -> list[Member]:
    return [Member(row, similarity, same, checked) for row in rows]
