"""`recsys tag train`: a head of one's own on frozen vectors, from labels of people; and `calibrate`, which keeps the
head that a model brings along and learns from labels only how far it can be trusted.

The artifact `head-<name>` holds the head (`head.json`, `weights.safetensors`), `evaluation.json` with every figure of
its training, `out_of_fold.parquet` (what heads said of labelled items that they had not learned from), and
`quarantine.parquet` (rows of the labels file that could not be taken).

With `--finetune` the image encoder learns first, from one half of the labelled items; head, calibration and figures
come from the other half, which it has not seen. Its ONNX form lies in the artifact's folder `encoder`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from embeddings.tagging.calibrated import calibrate_on
from embeddings.tagging.heads import Vectors
from embeddings.tagging.labels import Labels, read_labels
from embeddings.tagging.taxonomy import Taxonomy
from embeddings.tagging.trained import TrainedHead, train_on
from jobs.artifacts import Dataset, load_dataset
from jobs.progress import console, progress_bar
from jobs.tag_finetune import finetuned
from jobs.tag_heads import FINETUNED, ready_made_head
from jobs.tag_runs import taxonomy_of
from jobs.tag_vectors import tag_vectors
from recsys.errors import ConfigError
from recsys.interactions import write_table
from recsys.manifest import EmbeddingSpace, canonical_json, fingerprint
from recsys.storage.artifact_files import read_artifact, write_artifact
from recsys.tagging_config import TaggingConfig
from recsys.workspace import Workspace

MODALITIES: dict[str, tuple[str, ...]] = {
    "image": ("image",),
    "audio": ("audio",),
    "text": ("text",),
    "fusion": ("image", "text", "audio", "transcript"),
}
EVALUATION, OUT_OF_FOLD, QUARANTINE = "evaluation.json", "out_of_fold.parquet", "quarantine.parquet"


def train_head_job(
    workspace: Workspace, *, head: str, labels: Path, with_text: bool = False, finetune: bool = False
) -> tuple[dict[str, Any], int]:
    """Train the head `head` on the items that were validated last; exit code 1 when rows of the labels were refused.

    Args:
        head: image, audio, text, or fusion: of whatever an item has.
        labels: see `embeddings.tagging.labels`.
        with_text: an image or audio head reads the items' words as well.
        finetune: adapt the last blocks of the image encoder, too.

    Raises:
        ConfigError: there is no such head to train, or the taxonomy cannot be read.
        InputError: the labels cannot be read, or are too few.
    """
    if head not in MODALITIES:
        raise ConfigError(f"--head {head} cannot be trained: choose one of {', '.join(MODALITIES)}")
    if finetune and head != "image":
        raise ConfigError("only the image head has an encoder to fine-tune: leave --finetune out")
    dataset, taxonomy = load_dataset(workspace), taxonomy_of(workspace)
    found = read_labels(labels, item_ids=set(dataset.vocabulary.item_ids), taxonomy=taxonomy, head=head)
    _say_refused(found, labels)
    taught, encoder = finetuned(workspace, dataset, found) if finetune else (found, None)
    wanted = (*MODALITIES[head], *(("text",) if with_text and head in ("image", "audio") else ()))
    encoders = {} if encoder is None else {"image": f"onnx:{encoder}"}
    vectors, spaces = tag_vectors(workspace, dataset, wanted, encoders=encoders)
    vectors = {name: each for name, each in vectors.items() if each[1].any()}
    summary = train_head(workspace, dataset, vectors, spaces, taught, taxonomy, head=head, encoder=encoder)
    return summary, 1 if len(found.quarantine) else 0


def calibrate_head_job(workspace: Workspace, *, head: str, labels: Path) -> tuple[dict[str, Any], int]:
    """Calibrate the classifier or the prompts that a model brings along, on labelled items; exit code as above.

    Raises:
        ConfigError: there is no such head; trained heads are calibrated when they are trained.
        InputError: the labels cannot be read, or are too few.
    """
    dataset, taxonomy = load_dataset(workspace), taxonomy_of(workspace)
    base = ready_made_head(workspace, head, taxonomy)
    found = read_labels(labels, item_ids=set(dataset.vocabulary.item_ids), taxonomy=taxonomy, head=head)
    _say_refused(found, labels)
    vectors, spaces = tag_vectors(workspace, dataset, tuple(base.spec.spaces))
    base.require(spaces)
    config = workspace.config.tagging
    made_from = _made_from(vectors, spaces, dataset.vocabulary.item_ids, found, taxonomy, config)

    def fill(folder: Path) -> dict[str, Any]:
        ids = dataset.vocabulary.item_ids
        return _write(calibrate_on(base, vectors, ids, found, taxonomy, config), found, folder)

    summary = _kept(workspace, head, made_from | {"head": head, "base": base.version}, fill)
    return summary, 1 if len(found.quarantine) else 0


def train_head(
    workspace: Workspace,
    dataset: Dataset,
    vectors: Vectors,
    spaces: Mapping[str, EmbeddingSpace],
    labels: Labels,
    taxonomy: Taxonomy | None,
    *,
    head: str,
    encoder: Path | None = None,
) -> dict[str, Any]:
    """The artifact `head-<head>` from vectors of the dataset's items; one that is there already is not made again."""
    config = workspace.config.tagging
    made_from = _made_from(vectors, spaces, dataset.vocabulary.item_ids, labels, taxonomy, config) | {"head": head}

    def fill(folder: Path) -> dict[str, Any]:
        with progress_bar(f"train the {head} head", "fits") as bar:
            trained = train_on(
                vectors, spaces, dataset.vocabulary.item_ids, labels, taxonomy, config, head=head, on_progress=bar
            )
        if encoder is not None:
            shutil.copytree(encoder, folder / FINETUNED)
        return _write(trained, labels, folder)

    return _kept(workspace, head, made_from, fill)


def _kept(
    workspace: Workspace, head: str, made_from: Mapping[str, Any], fill: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    kind = f"head-{head}"
    path = write_artifact(workspace.root, kind, fingerprint(made_from), made_from, fill)
    _, manifest = read_artifact(workspace.root, kind, path.name)
    _show(json.loads((path / EVALUATION).read_text(encoding="utf-8")))
    return {"head": head, "key": path.name, **manifest.summary}


def _made_from(
    vectors: Vectors,
    spaces: Mapping[str, EmbeddingSpace],
    item_ids: Sequence[str],
    labels: Labels,
    taxonomy: Taxonomy | None,
    config: TaggingConfig,
) -> dict[str, Any]:
    said = [labels.item_ids, labels.tags, _sha256(labels.y), _sha256(labels.known)]
    return {
        "items": fingerprint(list(item_ids)),
        "vectors": {name: [_sha256(x), _sha256(present)] for name, (x, present) in vectors.items()},
        "spaces": {name: spaces[name].model_dump(mode="json") for name in vectors},
        "labels": fingerprint(said),
        "taxonomy": None if taxonomy is None else taxonomy.model_dump(mode="json"),
        "training": config.training.model_dump(mode="json"),
        "threshold": config.threshold,
        "unsure_from": config.unsure_from,
    }


def _write(trained: TrainedHead, labels: Labels, folder: Path) -> dict[str, Any]:
    trained.head.save(folder)
    (folder / EVALUATION).write_text(canonical_json(trained.evaluation), encoding="utf-8")
    write_table(trained.out_of_fold, folder / OUT_OF_FOLD)
    write_table(labels.quarantine, folder / QUARANTINE)
    return {
        "version": trained.head.version,
        "tags": len(trained.head.spec.tags),
        "refused_rows": len(labels.quarantine),
        **trained.head.spec.metrics,
    }


def _sha256(array: np.ndarray[Any, Any]) -> str:
    return sha256(np.ascontiguousarray(array).data).hexdigest()


def _say_refused(labels: Labels, path: Path) -> None:
    n = len(labels.quarantine)
    if n:
        first = labels.quarantine.slice(0, 1).to_pylist()[0]
        example = escape(f"{path.name}:{first['line']}: {first['message']}")
        console.print(f"  [yellow]{n} rows of the labels refused[/], as {example}", soft_wrap=True)


_ORIGINS = {
    "held_out": "",
    "unreached": "target not reached",
    "few_labels": "few labels",
    "taxonomy": "taxonomy",
}


def _show(evaluation: Mapping[str, Any]) -> None:
    figures = evaluation["figures"]
    console.print(f"  {evaluation['n_labelled']:,} labelled items; figures of each tag on those held out:")
    table = Table(box=None, pad_edge=False)
    for name in ("  tag", "yes", "AP", "precision", "recall", "threshold", "unsure from", ""):
        table.add_column(name, justify="left" if name in ("  tag", "") else "right", no_wrap=True)
    for row in figures["by_tag"]:
        chosen = evaluation["thresholds"][row["tag"]]
        threshold = chosen["threshold"]
        table.add_row(
            f"  {escape(row['tag'])}",
            str(row["n_yes"]),
            *(_with_interval(row[name]) for name in ("ap", "precision", "recall")),
            "never" if threshold["yes"] > 1 else f"{threshold['yes']:.2f}",
            f"{threshold['unsure']:.2f}" if threshold["unsure"] < threshold["yes"] else "",
            f"[dim]{_ORIGINS[chosen['origin']]}[/]",
        )
    console.print(table)
    overall = {"accuracy": figures["accuracy"], "mean AP": figures["macro"]["ap"], "micro AP": figures["micro"]["ap"]}
    said = "   ".join(f"{name} {_with_interval(value)}" for name, value in overall.items() if value is not None)
    error = evaluation["reliability"]
    console.print(f"  {said}")
    console.print(
        f"  calibration error {error['before']['ece']:.3f} → {error['after']['ece']:.3f}"
        f" [dim]({evaluation['calibration']['method']}, cross-fitted)[/]"
    )
    for left in evaluation["left_out"]:
        console.print(
            f"  [yellow]{escape(left['tag'])} is not learned[/]: {left['n_yes']} have it, {left['n_no']} do not"
        )
    decision = evaluation["pseudo_labels"]
    if decision is not None:
        kept = "used" if decision["kept"] else "switched off"
        console.print(f"  pseudo-labels {kept}: {decision['reason']} ({_with_interval(decision['gain'])})")


def _with_interval(figure: Mapping[str, float | None]) -> str:
    if figure["value"] is None:
        return "-"
    low, high = figure["low"], figure["high"]
    return f"{figure['value']:.2f}" + ("" if low is None or high is None else f" [dim]{low:.2f}-{high:.2f}[/]")
