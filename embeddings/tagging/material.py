"""What can be learned from: labels and vectors of the same items, and the tags of which there is enough.

Letters: N items of the catalogue, n labelled ones of them, C tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.tagging.heads import Vectors
from embeddings.tagging.labels import Labels
from embeddings.tagging.taxonomy import Taxonomy
from embeddings.tagging.training import Rows, TrainingSet
from recsys.errors import InputError

FEWEST_ITEMS = 10
FEWEST_YES = 2


@dataclass(frozen=True)
class Material:
    """What can be learned from: `rows` int64 [n] of the catalogue, `data` in their order."""

    rows: Rows
    data: TrainingSet
    unlabelled: TrainingSet
    tags: tuple[str, ...]
    left_out: list[dict[str, Any]]


def material_of(
    vectors: Vectors, item_ids: Sequence[str], labels: Labels, taxonomy: Taxonomy | None, head: str
) -> Material:
    """The labelled items that have vectors, the modalities that any of them has, and the tags that can be told."""
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    rows = np.array([row_of.get(item_id, -1) for item_id in labels.item_ids], np.int64)
    there = {name: each for name, each in vectors.items() if each[1][rows[rows >= 0]].any()}
    if not there:
        raise InputError(f"no labelled item has {' or '.join(vectors)}: the {head} head has nothing to learn from")
    has_any = np.any([present for _, present in there.values()], axis=0)
    usable = (rows >= 0) & has_any[rows] & labels.known.any(axis=1)
    if usable.sum() < FEWEST_ITEMS:
        raise InputError(
            f"{usable.sum()} labelled items have {' or '.join(there)}: label {FEWEST_ITEMS} at least, better hundreds"
        )
    y, known = labels.y[usable], labels.known[usable]
    n_yes, n_no = ((y > 0) & known).sum(axis=0), ((y <= 0) & known).sum(axis=0)
    exclusive = excludes(y, known, labels.tags, taxonomy)
    columns = np.flatnonzero((n_yes >= FEWEST_YES) & (exclusive | (n_no >= FEWEST_YES)))
    if not len(columns) or (exclusive and len(columns) < 2):
        raise InputError(f"no tag can be told: each needs {FEWEST_YES} items that have it and {FEWEST_YES} that do not")
    tags = tuple(labels.tags[at] for at in columns)
    y, known = y[:, columns], known[:, columns]
    of_one = ((y > 0) | ~known).any(axis=1) if exclusive else known.any(axis=1)
    labelled = rows[usable][of_one]
    others = np.setdiff1d(np.flatnonzero(has_any), rows[rows >= 0])
    everything = TrainingSet(
        there, np.zeros((len(item_ids), 0), np.float32), np.zeros((len(item_ids), 0), bool), exclusive
    )
    data = TrainingSet(everything.take(labelled).vectors, y[of_one], known[of_one], exclusive)
    left_out = [
        {"tag": tag, "n_yes": int(n_yes[at]), "n_no": int(n_no[at])}
        for at, tag in enumerate(labels.tags)
        if tag not in tags
    ]
    return Material(labelled, data, everything.take(others), tags, left_out)


def excludes(y: NDArray[np.float32], known: NDArray[np.bool_], tags: Sequence[str], taxonomy: Taxonomy | None) -> bool:
    """Whether each item has one of the tags: they are one group of the taxonomy, or each item is said to have one."""
    yes = known & (y > 0)
    one_group = taxonomy is not None and len({taxonomy.tags[tag].group or tag for tag in tags}) == 1
    has_none = (known & (y <= 0)).all(axis=1).any()
    at_most_one = bool((yes.sum(axis=1) <= 1).all()) and not has_none
    one_said = bool((yes.sum(axis=1) == 1).all() and known.all())
    return len(tags) > 1 and at_most_one and (one_group or one_said)
