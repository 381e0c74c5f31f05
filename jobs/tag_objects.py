"""The objects that a detector found, each with a vector of its own, so that things like one can be found: the artifact
that `jobs.objects_of` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embeddings.registry import load_encoders
from embeddings.stored import gather
from embeddings.tagging.crops import PREFIX, CropReader
from embeddings.tagging.objects import Record, object_items, objects_table
from embeddings.tagging.taxonomy import Taxonomy
from jobs.artifacts import Dataset
from jobs.embed_streams import EmbedChoice, Stream, embed_stream, n_threads, reader_of, references_of
from jobs.objects_of import OBJECTS, OBJECTS_KIND, SPACE, VECTORS
from recsys.item_objects import OBJECTS_SCHEMA
from recsys.manifest import canonical_json, fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace

EDGES = ("x0", "y0", "x1", "y1")


def embed_objects(
    workspace: Workspace,
    dataset: Dataset,
    records: Sequence[Record | None],
    tag_of_label: dict[str, str],
    choice: EmbedChoice,
) -> Path | None:
    """Embed what no earlier run embedded, by the encoder that sees the items' pictures; None where there is none.

    Args:
        records: of the detector, one for each item.
        tag_of_label: what the detector's labels mean; a label without a tag stands for itself.
    """
    settings, ids = workspace.config.encoders, dataset.vocabulary.item_ids
    if settings.image == "none":
        return None
    spec = f"{PREFIX}{settings.image}"
    encoder = load_encoders(
        spec,
        "none",
        device="cpu" if choice.engine else settings.device,
        threads=n_threads(workspace),
        precision=settings.precision,
        compile=settings.compile,
    ).image
    assert encoder is not None
    pictures = reader_of(workspace)
    reader = CropReader(pictures)
    try:
        references = [reference for _, reference in references_of(dataset, "image", pictures)]
        objects = objects_table(ids, references, records, workspace.config.tagging.detection)
        stream = Stream("objects", spec, encoder, object_items(objects), len(objects), reads=True)
        report = embed_stream(workspace, stream, reader, choice)
    finally:
        reader.close()
    hashes = [report.content_hashes.get(each) for each in objects["object_id"].to_pylist()]
    vectors, present = gather(stream.store(workspace), encoder.space, hashes)
    table = _table(objects, tag_of_label).filter(pa.array(present))

    def fill(folder: Path) -> dict[str, Any]:
        pq.write_table(table, folder / OBJECTS, compression="zstd")
        np.save(folder / VECTORS, vectors[present])
        (folder / SPACE).write_text(canonical_json(encoder.space.model_dump(mode="json")), encoding="utf-8")
        return {"objects": len(table)}

    made_from = {
        "content_of": dataset.content_key,
        "space": encoder.space.model_dump(mode="json"),
        "objects": fingerprint([hashes, table.drop_columns(["confidence"]).to_pydict()]),
    }
    return write_artifact(workspace.root, OBJECTS_KIND, fingerprint(made_from), made_from, fill)


def tags_of_labels(taxonomy: Taxonomy, labels: Sequence[str], *, labels_are_tags: bool) -> dict[str, str]:
    """label → the first tag that means it."""
    if labels_are_tags:
        return {label: label for label in labels}
    found: dict[str, str] = {}
    for tag, places in taxonomy.labels_of("detection", labels).items():
        for place in places:
            found.setdefault(labels[place], tag)
    return found


def _table(objects: pa.Table, tag_of_label: dict[str, str]) -> pa.Table:
    """`OBJECTS_SCHEMA`. Objects of an item are counted from 0, in the detector's order: the surest first."""
    item_ids = objects["item_id"].to_pylist()
    numbers, n_of_item = [], dict.fromkeys(item_ids, 0)
    for item_id in item_ids:
        numbers.append(n_of_item[item_id])
        n_of_item[item_id] += 1
    edges = np.asarray(objects["box"].combine_chunks().flatten(), dtype=np.float32).reshape(-1, 4)
    tags = [tag_of_label.get(label, label) for label in objects["label"].to_pylist()]
    return pa.table(
        {
            "item_id": objects["item_id"],
            "object": numbers,
            "tag": tags,
            "confidence": objects["confidence"],
            **{edge: edges[:, at] for at, edge in enumerate(EDGES)},
        },
        schema=OBJECTS_SCHEMA,
    )
