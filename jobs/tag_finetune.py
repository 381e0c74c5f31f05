"""An image encoder whose last blocks have learned from labelled items, for heads on top of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings.refused import Refused
from embeddings.shards import write_atomically
from embeddings.tagging.labels import Labels
from jobs.artifacts import Dataset
from jobs.embed_streams import decode_workers, reader_of
from jobs.progress import console, progress_bar
from jobs.tag_vectors import encoder_specs
from recsys.manifest import canonical_json, fingerprint, sha256_bytes
from recsys.workspace import Workspace


def finetuned(workspace: Workspace, dataset: Dataset, labels: Labels) -> tuple[Labels, Path]:
    """The half of the labels that the encoder has not seen, and the folder of that encoder."""
    from embeddings.tagging.finetune import finetune

    training = workspace.config.tagging.training
    order = np.random.default_rng(training.seed).permutation(len(labels.item_ids))
    seen, unseen = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    spec = encoder_specs(workspace)["image"]
    pictures = _pictures(workspace, dataset, [labels.item_ids[row] for row in seen])
    rows = seen[[place for place, each in enumerate(pictures) if each is not None]]
    taught = [each for each in pictures if each is not None]
    made_from = {
        "encoder": spec,
        "pictures": [sha256_bytes(each) for each in taught],
        "labels": [labels.y[rows].tolist(), labels.known[rows].tolist()],
        "training": training.model_dump(mode="json"),
    }
    folder = workspace.root / "artifacts" / "finetuned" / fingerprint(made_from)
    done = folder / "finetuned.json"
    if not done.exists():
        with progress_bar("fine-tune the encoder", "epochs") as bar:
            tuned = finetune(
                spec,
                taught,
                labels.y[rows],
                labels.known[rows],
                training,
                folder,
                lambda progress: bar(progress.epoch, progress.n_epochs),
                device=workspace.config.encoders.device,
                decode_workers=decode_workers(workspace),
            )
        figures = {"frozen": vars(tuned.frozen), "tuned": vars(tuned.tuned), "best_epoch": tuned.best_epoch}
        write_atomically(done, canonical_json(figures).encode())
    told = json.loads(done.read_text(encoding="utf-8"))
    console.print(f"  fine-tuned: on its validation part {told['frozen']} became {told['tuned']}", soft_wrap=True)
    return _part(labels, unseen), folder


def _part(labels: Labels, rows: Any) -> Labels:
    ids = tuple(labels.item_ids[row] for row in rows)
    return replace(labels, item_ids=ids, y=labels.y[rows], known=labels.known[rows])


def _pictures(workspace: Workspace, dataset: Dataset, item_ids: Sequence[str]) -> list[bytes | None]:
    """Each item's picture; None where it has none, or none that can be read."""
    rows, _ = dataset.vocabulary.rows(item_ids)
    named = dataset.items["image"].take(pa.array(rows)).to_pylist()
    reader = reader_of(workspace)
    found: list[bytes | None] = []
    try:
        for item_id, name in zip(item_ids, named, strict=True):
            reference = reader.reference_for(item_id, name)
            try:
                found.append(None if reference is None else reader.read(reference))
            except Refused:
                found.append(None)
    finally:
        reader.close()
    return found
