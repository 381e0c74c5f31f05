"""Which head tags what: what was trained last, or what the models bring along, as `[tagging]` says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from embeddings.tagging.heads import Head, Threshold
from embeddings.tagging.image_heads import as_the_taxonomy_says, default_thresholds
from embeddings.tagging.taxonomy import Taxonomy
from jobs.artifacts import Dataset
from jobs.tag_vectors import encoder_specs
from recsys.errors import ConfigError, MissingArtifact
from recsys.storage.artifact_files import read_artifact
from recsys.tagging_config import HeadName
from recsys.workspace import Workspace

HEADS: tuple[str, ...] = get_args(HeadName)
FINETUNED = "encoder"
"""Folder of a trained head's own encoder, where its last blocks were fine-tuned."""


def thresholds_of(workspace: Workspace, taxonomy: Taxonomy, tags: Iterable[str]) -> dict[str, Threshold]:
    """tag → when it counts, for heads that training says nothing about."""
    config = workspace.config.tagging
    return default_thresholds(tags, taxonomy, threshold=config.threshold, unsure_from=config.unsure_from)


def trained_head(workspace: Workspace, name: str) -> tuple[Head, Path] | None:
    """What `recsys tag train` or `calibrate --head NAME` made last, and its folder. Raises CorruptArtifact."""
    try:
        folder, _ = read_artifact(workspace.root, f"head-{name}")
    except MissingArtifact:
        return None
    return Head.load(folder), folder


def head_of(workspace: Workspace, name: str, taxonomy: Taxonomy | None) -> tuple[Head, dict[str, str]]:
    """The head, and the encoders that it reads where they are its own.

    Raises:
        ConfigError: there is no such head here; the message says how to get one.
    """
    if name not in HEADS:
        raise ConfigError(f"there is no head called {name!r}: the heads are {', '.join(HEADS)}")
    wanted, kept = _wanted(workspace, name), trained_head(workspace, name)
    if kept is not None and wanted in ("auto", kept[0].spec.origin):
        head, folder = kept
        own = {"image": f"onnx:{folder / FINETUNED}"} if (folder / FINETUNED).exists() else {}
        return as_the_taxonomy_says(head, taxonomy), own
    if wanted == "trained":
        raise ConfigError(f"no {name} head was trained yet: run `recsys tag train --head {name} --labels labels.csv`")
    return ready_made_head(workspace, name, taxonomy), {}


def ready_made_head(workspace: Workspace, name: str, taxonomy: Taxonomy | None) -> Head:
    """The classifier or the prompts of the model that `[tagging]` names. Raises ConfigError: it brings none."""
    config, spec = workspace.config.tagging, encoder_specs(workspace)
    if name not in ("image", "audio") or _wanted(workspace, name) == "trained":
        raise ConfigError(f"the {name} head is a trained one, which is calibrated when `recsys tag train` makes it")
    if name == "image":
        from embeddings.tagging.image_heads import image_head

        return image_head(config, taxonomy, encoder=spec["image"], device=workspace.config.encoders.device)
    from embeddings.tagging.audio_heads import ready_made_audio_head

    return ready_made_audio_head(spec["audio"], taxonomy, config)


def _wanted(workspace: Workspace, name: str) -> str:
    config = workspace.config.tagging
    return {"image": config.image.head, "audio": config.audio.head}.get(name, "trained")


def heads_to_run(workspace: Workspace, dataset: Dataset) -> list[str]:
    """Where `--head` names none: those that are set up, and that the catalogue has content for."""
    config = workspace.config.tagging
    specs = encoder_specs(workspace)
    has = {column: dataset.items[column].null_count < len(dataset.items) for column in ("image", "audio")}
    has["image"] |= bool(workspace.config.sources.image_files)
    trained = {name for name in ("image", "audio", "text", "fusion") if trained_head(workspace, name) is not None}
    hears = specs["audio"].startswith(("tflite:", "transformers:"))
    wanted = {
        "image": has["image"] and (specs["image"] not in ("none", "fake") or "image" in trained),
        "detection": has["image"] and config.detection.model != "none",
        "audio": has["audio"] and (hears or "audio" in trained),
        "speech": has["audio"] and config.speech.model != "none",
        "text": "text" in trained,
        "fusion": "fusion" in trained,
    }
    return [name for name in HEADS if wanted[name]]
