"""`recsys tag train`: a head learns from labelled items, is judged on some that it has not seen, and tags from then on.

    labels → vectors (the embedding job) → folds, calibration, thresholds → artifacts/head-<name>

With `--finetune` the image encoder learns first, from one half of the labelled items; head, calibration and figures
come from the other half, which it has not seen.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from embeddings.refused import Refused
from embeddings.tagging.labels import Labels, read_labels
from embeddings.tagging.trained import TrainedHead, train_on
from jobs.artifacts import Dataset, load_dataset
from jobs.embed_streams import decode_workers, reader_of
from jobs.progress import console, progress_bar
from jobs.tag_heads import FINETUNED, taxonomy_of
from jobs.tag_vectors import encoder_specs, tag_vectors
from recsys.errors import ConfigError
from recsys.interactions import write_table
from recsys.manifest import EmbeddingSpace, canonical_json, fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace

EVALUATION, OUT_OF_FOLD = "evaluation.json", "out_of_fold.parquet"
READS = {
    "image": ("image",),
    "audio": ("audio",),
    "text": ("text",),
    "fusion": ("image", "text", "audio", "transcript"),
}
_SHOWN = 20


def train_head_job(
    workspace: Workspace, *, head: str, labels: Path, with_text: bool = False, finetune: bool = False
) -> tuple[dict[str, Any], int]:
    """Fit the head on these labels; exit code 1 where rows of the file were refused.

    Raises:
        ConfigError: there is no such head, or it cannot be fine-tuned.
        InputError: the file cannot be used, or too few of its items have content.
    """
    if head not in READS:
        raise ConfigError(f"a head to train is one of {', '.join(READS)}, not {head!r}")
    if finetune and head != "image":
        raise ConfigError("only the image head has an encoder to fine-tune: leave --finetune out")
    dataset, taxonomy = load_dataset(workspace), taxonomy_of(workspace)
    known = read_labels(labels, item_ids=set(dataset.vocabulary.item_ids), taxonomy=taxonomy, head=head)
    _keep_refused(workspace, head, known)
    taught, encoders = (known, {}) if not finetune else _finetuned(workspace, dataset, known)
    names = READS[head] + (("text",) if with_text and "text" not in READS[head] else ())
    vectors, spaces = tag_vectors(workspace, dataset, names, encoders=encoders)
    vectors = {name: each for name, each in vectors.items() if each[1].any()}
    spaces = {name: spaces[name] for name in vectors}
    with progress_bar(f"train {head} head", "fits") as bar:
        trained = train_on(
            vectors, spaces, dataset.vocabulary.item_ids, taught, taxonomy, workspace.config.tagging, head=head,
            on_progress=bar,
        )  # fmt: skip
    key = keep_head(workspace, head, trained, taught, spaces, encoders)
    show(trained)
    return {"head": head, "artifact": key, **trained.head.spec.metrics}, int(len(known.quarantine) > 0)


def keep_head(
    workspace: Workspace,
    name: str,
    trained: TrainedHead,
    labels: Labels,
    spaces: dict[str, EmbeddingSpace],
    encoders: dict[str, str],
) -> str:
    """The artifact `head-<name>`: head, figures, held-out confidences, and its own encoder where it has one."""

    def fill(folder: Path) -> dict[str, Any]:
        trained.head.save(folder)
        (folder / EVALUATION).write_text(json.dumps(trained.evaluation, ensure_ascii=False, indent=1), encoding="utf-8")
        pq.write_table(trained.out_of_fold, folder / OUT_OF_FOLD, compression="zstd")
        for spec in encoders.values():
            shutil.copytree(spec.removeprefix("onnx:"), folder / FINETUNED)
        return dict(trained.head.spec.metrics)

    made_from = {
        "labels": fingerprint([list(labels.item_ids), labels.y.tolist(), labels.known.tolist(), list(labels.tags)]),
        "spaces": {name: space.model_dump() for name, space in spaces.items()},
        "tagging": workspace.config.tagging.model_dump(mode="json"),
        "version": trained.head.version,
    }
    key = fingerprint(made_from)
    write_artifact(workspace.root, f"head-{name}", key, made_from, fill)
    return key


def show(trained: TrainedHead) -> None:
    """Each tag's figures on held-out items."""
    table = Table("  tag", "labelled", "precision", "recall", "AP", "counts from", box=None, pad_edge=False)
    for each in sorted(trained.evaluation["figures"]["by_tag"], key=lambda each: -int(each["n_yes"]))[:_SHOWN]:
        told = (_told(each[name]) for name in ("precision", "recall", "ap"))
        threshold = trained.head.spec.thresholds[each["tag"]].yes
        table.add_row(f"  {escape(each['tag'])}", f"{each['n_yes']:,}", *told, f"{threshold:.2f}")
    console.print(table)
    metrics = trained.head.spec.metrics
    console.print(
        f"  calibration error {metrics['ece_before']:.3f} before, {metrics['ece_after']:.3f} after "
        f"({trained.evaluation['calibration']['method']}), on items held out"
    )
    decision = trained.evaluation["pseudo_labels"]
    if decision is not None:
        console.print(f"  pseudo-labels: {'kept' if decision['kept'] else 'switched off'}")


def _told(value: Any) -> str:
    number = value["value"] if isinstance(value, dict) else value
    return "-" if number is None else f"{number:.2f}"


def _keep_refused(workspace: Workspace, head: str, labels: Labels) -> None:
    kept = workspace.root / "artifacts" / "labels" / f"{head}-quarantine.parquet"
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_table(labels.quarantine, kept)
    if len(labels.quarantine):
        first = labels.quarantine.slice(0, 1).to_pylist()[0]
        example = escape(f"{first['file']}:{first['line']}: {first['message']}")
        n = len(labels.quarantine)
        console.print(f"  [yellow]{n} labels refused[/], as {example}; all of them: {kept}", soft_wrap=True)


def _finetuned(workspace: Workspace, dataset: Dataset, labels: Labels) -> tuple[Labels, dict[str, str]]:
    """The half that the encoder has not seen, and the encoder that learned from the other half."""
    from embeddings.tagging.finetune import finetune

    training = workspace.config.tagging.training
    order = np.random.default_rng(training.seed).permutation(len(labels.item_ids))
    seen, unseen = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    spec = encoder_specs(workspace)["image"]
    pictures = _pictures(workspace, dataset, [labels.item_ids[row] for row in seen])
    rows = seen[[place for place, each in enumerate(pictures) if each is not None]]
    folder = workspace.root / "artifacts" / "finetuned" / fingerprint(
        [spec, [labels.item_ids[row] for row in rows], labels.y[rows].tolist(), training.model_dump(mode="json")]
    )  # fmt: skip
    done = folder / "finetuned.json"
    if not done.exists():
        with progress_bar("fine-tune the encoder", "epochs") as bar:
            tuned = finetune(
                spec,
                [each for each in pictures if each is not None],
                labels.y[rows],
                labels.known[rows],
                training,
                folder,
                lambda progress: bar(progress.epoch, progress.n_epochs),
                device=workspace.config.encoders.device,
                decode_workers=decode_workers(workspace),
            )
        figures = {"frozen": vars(tuned.frozen), "tuned": vars(tuned.tuned), "best_epoch": tuned.best_epoch}
        done.write_text(canonical_json(figures), encoding="utf-8")
    told = json.loads(done.read_text(encoding="utf-8"))
    console.print(f"  fine-tuned: on its validation part {told['frozen']} became {told['tuned']}", soft_wrap=True)
    return _part(labels, unseen), {"image": f"onnx:{folder}"}


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
