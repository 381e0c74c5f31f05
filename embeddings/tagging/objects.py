"""From what detectors saw to tags of items, and to the objects that are worth a vector of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any

import pyarrow as pa

from embeddings.contents import Item
from embeddings.preprocess.crop import PixelBox
from embeddings.tagging.crops import crop_reference
from embeddings.tagging.heads import Threshold
from embeddings.tagging.taxonomy import Taxonomy
from recsys.manifest import canonical_json
from recsys.tagging_config import DetectionConfig
from recsys.tags import TAGS_SCHEMA, Verdict

HEAD = "detection"
CHUNK = 16_384
"""Items whose rows are Python objects at once; those of a large catalogue would not fit."""
Record = Mapping[str, Any]
"""What a `Detector` gives for one picture."""

CROPS_SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),  # a running number: ids of items may be of any form
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),  # what CropReader reads
        pa.field("label", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("box", pa.list_(pa.int32(), 4), nullable=False),  # x0, y0, x1, y1
    ]
)


def tags_of_records(
    item_ids: Sequence[str],
    records: Sequence[Record | None],
    taxonomy: Taxonomy,
    thresholds: Mapping[str, Threshold],
    *,
    labels: Sequence[str],
    labels_are_tags: bool,
    model: str,
    version: str,
    now: datetime,
) -> pa.Table:
    """TAGS_SCHEMA: which tags the objects of `N` items mean, by item, then in the taxonomy's order.

    A tag is as sure as its surest object. Its evidence holds them all:
    `{"width": 640, "height": 480, "boxes": [[x0, y0, x1, y1, confidence], ...]}`.

    Args:
        records: None where an item has none.
        thresholds: of each tag that the detector may give; those that are missing are not given.
        labels, labels_are_tags: as the `Detector` has them.
    """
    places = _places(taxonomy, labels, labels_are_tags)
    wanted = [(tag, {labels[place] for place in at}) for tag, at in places.items() if tag in thresholds]
    said = {"by": "model", "head": HEAD, "model": model, "version": version, "at": now}
    tables = [TAGS_SCHEMA.empty_table()]
    for start in range(0, len(item_ids), CHUNK):
        part = slice(start, start + CHUNK)
        rows = [
            {"item_id": item_id} | row | said
            for item_id, record in zip(item_ids[part], records[part], strict=True)
            if record is not None
            for row in _rows(record, wanted, thresholds)
        ]
        tables.append(pa.Table.from_pylist(rows, schema=TAGS_SCHEMA))
    return pa.concat_tables(tables).combine_chunks()


def _rows(
    record: Record, wanted: Sequence[tuple[str, Set[str]]], thresholds: Mapping[str, Threshold]
) -> Iterator[dict[str, Any]]:
    """tag, verdict, confidence and evidence of each tag that one picture's objects mean."""
    for tag, names in wanted:
        boxes = [each for each in record["boxes"] if each["label"] in names]
        confidence = max((each["confidence"] for each in boxes), default=0.0)
        verdict = _verdict(confidence, thresholds[tag]) if boxes else None
        if verdict is not None:
            yield {"tag": tag, "verdict": verdict, "confidence": confidence, "evidence": _evidence(record, boxes)}


def objects_table(
    item_ids: Sequence[str],
    references: Sequence[str | None],
    records: Sequence[Record | None],
    config: DetectionConfig,
) -> pa.Table:
    """CROPS_SCHEMA: the objects of `N` items that are large enough to be embedded, in the items' order."""
    rows: list[dict[str, Any]] = []
    for item_id, reference, record in zip(item_ids, references, records, strict=True):
        if record is None or reference is None:
            continue
        least = config.min_object_share * record["width"] * record["height"]
        for each in record["boxes"]:
            x0, y0, x1, y1 = each["box"]
            if (x1 - x0) * (y1 - y0) >= least:
                box = _pixels(each["box"], record)
                name = {"object_id": str(len(rows)), "item_id": item_id, "reference": crop_reference(reference, box)}
                rows.append(name | {"label": each["label"], "confidence": each["confidence"], "box": box})
    return pa.Table.from_pylist(rows, schema=CROPS_SCHEMA)


def object_items(objects: pa.Table) -> Iterator[Item]:
    """What `embed_items` takes: one item for each object; the table says whose it is."""
    yield from zip(objects["object_id"].to_pylist(), objects["reference"].to_pylist(), strict=True)


def _places(taxonomy: Taxonomy, labels: Sequence[str], labels_are_tags: bool) -> Mapping[str, tuple[int, ...]]:
    if not labels_are_tags:
        return taxonomy.labels_of(HEAD, labels)
    allowed = set(taxonomy.for_head(HEAD))
    return {label: (place,) for place, label in enumerate(labels) if label in allowed}


def _verdict(confidence: float, threshold: Threshold) -> Verdict | None:
    if confidence >= threshold.yes:
        return "yes"
    return "unsure" if confidence >= threshold.unsure else None


def _evidence(record: Record, boxes: Sequence[Mapping[str, Any]]) -> str:
    listed = [[*each["box"], each["confidence"]] for each in boxes]
    return canonical_json({"width": record["width"], "height": record["height"], "boxes": listed})


def _pixels(box: Sequence[float], record: Record) -> PixelBox:
    """Whole pixels around a box, within the picture."""
    x0, y0, x1, y1 = box
    right, bottom = min(math.ceil(x1), record["width"]), min(math.ceil(y1), record["height"])
    return min(math.floor(x0), right - 1), min(math.floor(y0), bottom - 1), right, bottom
