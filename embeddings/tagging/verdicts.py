"""From a head's confidences to rows of tags.

Letters: N items, C tags, R rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.tagging.head_run import ABSENT, JUDGED, REFUSED
from embeddings.tagging.heads import Head
from embeddings.tagging.said import places_of
from recsys.tags import JUDGED_SCHEMA, TAGS_SCHEMA

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

SAME_CONFIDENCE = 1e-6


def verdict_rows(
    head: Head, item_ids: Sequence[str], confidences: Floats, *, model: str, version: str, now: datetime
) -> pa.Table:
    """`TAGS_SCHEMA`: the yes and unsure of each item, by item row, then the head's order of tags.

    Args:
        confidences: float32 [N, C], NaN where it was not looked.
    """
    tags = head.spec.tags
    yes_from = np.array([head.spec.thresholds[tag].yes for tag in tags], np.float32)
    unsure_from = np.array([head.spec.thresholds[tag].unsure for tag in tags], np.float32)
    rows, columns = np.nonzero(confidences >= np.minimum(yes_from, unsure_from))
    told = confidences[rows, columns]
    ids = pa.array(item_ids, pa.string())
    return pa.table(
        {
            "item_id": ids.take(pa.array(rows)),
            "tag": pa.array(tags, pa.string()).take(pa.array(columns)),
            "verdict": np.where(told >= yes_from[columns], "yes", "unsure"),
            "confidence": told,
            "by": pa.repeat("model", len(rows)),
            "head": pa.repeat(head.spec.name, len(rows)),
            "model": pa.repeat(model, len(rows)),
            "version": pa.repeat(version, len(rows)),
            "at": pa.repeat(pa.scalar(now, pa.timestamp("ms", "UTC")), len(rows)),
            "evidence": pa.nulls(len(rows), pa.string()),
        },
        schema=TAGS_SCHEMA,
    )


def carried(rows: pa.Table, earlier: pa.Table | None) -> pa.Table:
    """The rows; where an earlier run said exactly the same of an item and a tag, `at` says since when it does."""
    if earlier is None or not len(earlier) or not len(rows):
        return rows
    ids, tags = pc.unique(earlier["item_id"]), pc.unique(earlier["tag"])
    before = places_of(earlier["item_id"], ids) * len(tags) + places_of(earlier["tag"], tags)
    item, tag = places_of(rows["item_id"], ids), places_of(rows["tag"], tags)
    order = np.argsort(before, kind="stable")
    at = np.minimum(np.searchsorted(before[order], item * len(tags) + tag), len(order) - 1)
    matched = earlier.take(pa.array(order[at]))
    same = (item >= 0) & (tag >= 0) & (before[order[at]] == item * len(tags) + tag)
    for name in ("verdict", "head", "version"):
        same &= pc.fill_null(pc.equal(rows[name], matched[name]), False).to_numpy()
    same &= np.abs(rows["confidence"].to_numpy() - matched["confidence"].to_numpy()) <= SAME_CONFIDENCE
    since = pc.if_else(pa.array(same), matched["at"], rows["at"])
    return rows.set_column(rows.schema.get_field_index("at"), rows.schema.field("at"), since)


def judged_table(item_ids: Sequence[str], present: Mask, refused_ids: Iterable[str]) -> pa.Table:
    """`JUDGED_SCHEMA`, by item row.

    Args:
        present: bool [N], what the head could look at, all of it.
        refused_ids: of those that are not present, the ones some of whose content cannot be read; the others have none.
    """
    refused = set(refused_ids)
    status = [
        JUDGED if here else REFUSED if item_id in refused else ABSENT
        for item_id, here in zip(item_ids, present.tolist(), strict=True)
    ]
    return pa.table({"item_id": pa.array(item_ids, pa.string()), "status": status}, schema=JUDGED_SCHEMA)
