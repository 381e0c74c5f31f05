"""What one head said when it last ran, and what none of them could look at.

Letters: N items, K keys (an item and a tag in one number, see `TagTree.key`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from embeddings.tagging.said import places_of
from embeddings.tagging.tag_tree import Ints, TagTree, among, distinct
from recsys.tags import ANY_CONTENT

JUDGED, ABSENT, REFUSED = "judged", "absent", "refused"


@dataclass(frozen=True)
class HeadRun:
    """What one head said when it last ran.

    Attributes:
        tags: `TAGS_SCHEMA`.
        judged: `JUDGED_SCHEMA`.
        covers: tags that it can give.
        reads: the kinds of content that it judges by.
    """

    tags: pa.Table
    judged: pa.Table
    covers: tuple[str, ...]
    reads: frozenset[str] = ANY_CONTENT


@dataclass(frozen=True)
class Unseen:
    """Items that a head could not look at, with the tags that it covers and no head that did look at such content does:
    who heard the sound knows nothing of the picture.

    Attributes:
        items: int64, ascending.
        kind: int64, of each of them the place of its tags in `tags`.
        tags: int64 arrays: tags and those above them.
    """

    items: Ints
    kind: Ints
    tags: tuple[Ints, ...]

    @staticmethod
    def of(ids: pa.Array, runs: Sequence[HeadRun], tree: TagTree) -> Unseen:
        looked = np.zeros((len(ids), len(runs)), np.int8)
        for column, run in enumerate(runs):
            items = places_of(run.judged["item_id"], ids)
            for value, status in ((1, JUDGED), (2, REFUSED)):
                here = items[places_of(run.judged["status"], pa.array([status])) == 0]
                looked[here[here >= 0], column] = value
        items = np.flatnonzero((looked == 2).any(axis=1))
        kinds, kind = np.unique(looked[items], axis=0, return_inverse=True)
        place = {tag: at for at, tag in enumerate(tree.tags)}
        covers = [np.array([place[tag] for tag in run.covers], np.int64) for run in runs]
        reads = [run.reads for run in runs]
        return Unseen(items, kind.reshape(-1), tuple(_not_covered(row, covers, reads, tree) for row in kinds))

    def keys(self, items: Ints, tree: TagTree) -> Ints:
        """int64 [K]: of these items alone, which ascend."""
        here = np.flatnonzero(among(self.items, items))
        tags = [self.tags[kind] for kind in self.kind[here]]
        repeated = np.repeat(self.items[here], [len(each) for each in tags])
        return tree.key(repeated, np.concatenate([np.empty(0, np.int64), *tags]))

    def names(self, n: int, but: Ints, tree: TagTree) -> list[tuple[str, ...]]:
        """Of each of `n` items but these: items with the same tags share one tuple, which may be long."""
        names = [tuple(tree.tags[tag] for tag in tags.tolist()) for tags in self.tags]
        out: list[tuple[str, ...]] = [()] * n
        here = ~among(self.items, but)
        for item, kind in zip(self.items[here].tolist(), self.kind[here].tolist(), strict=True):
            out[item] = names[kind]
        return out


def _not_covered(
    looked: np.ndarray[tuple[int, ...], np.dtype[np.int8]],
    covers: Sequence[Ints],
    reads: Sequence[frozenset[str]],
    tree: TagTree,
) -> Ints:
    """Of one item: what each head that was refused covers, without what those cover that judged by all that it reads;
    and all above it."""
    blind = [np.empty(0, np.int64)]
    for mine, needed in ((covers[at], reads[at]) for at in np.flatnonzero(looked == 2).tolist()):
        seeing = [covers[at] for at in np.flatnonzero(looked == 1).tolist() if reads[at] >= needed]
        blind.append(np.setdiff1d(mine, np.concatenate([np.empty(0, np.int64), *seeing])))
    above, _ = tree.with_ancestors(distinct(np.concatenate(blind)))
    return distinct(above)
