"""`recsys embed`: the items' pictures and words, and the users' profiles, as vectors; only what changed is encoded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from embeddings.embed import EmbedReport, Item, embed_items
from embeddings.encoder import Encoder
from embeddings.item_text import item_text, profile_text, text_hash
from embeddings.onnx_encoder import export
from embeddings.registry import EncoderPair, load_encoders
from embeddings.shards import store_folder
from embeddings.stored import gather
from jobs.artifacts import Content, Dataset, load_content, load_dataset
from jobs.progress import console, progress_bar
from recsys.errors import InputError
from recsys.manifest import EmbeddingSpace, fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace


@dataclass
class Embedded:
    """Vectors by modality of one dataset, and what it took to make them."""

    content: Content
    reports: dict[str, EmbedReport] = field(default_factory=dict)


def embed_job(workspace: Workspace) -> tuple[dict[str, Any], int]:
    """Embed the dataset that was validated last; exit code 1 when some content could not be read."""
    embedded = embed_dataset(workspace, load_dataset(workspace))
    summary = {name: _figures(report) for name, report in embedded.reports.items()}
    failed = sum(report.n_failed for report in embedded.reports.values())
    return {"content": embedded.content.key, **summary}, 1 if failed else 0


def embed_dataset(workspace: Workspace, dataset: Dataset) -> Embedded:
    """Encode what no earlier run encoded, and line the vectors up with the dataset's items and users."""
    settings = workspace.config.encoders
    threads = settings.threads or os.cpu_count() or 1
    encoders = load_encoders(settings.image, settings.text, device=settings.device, threads=threads)
    spaces = {each.space.modality: each.space for each in (encoders.image, encoders.text) if each is not None}
    reports: dict[str, EmbedReport] = {}
    if encoders.image is not None:
        images = _images(dataset, items_folder(workspace))
        reports["image"] = _embed(workspace, encoders.image, images, len(dataset.items), "image")
    if encoders.text is not None:
        texts = _texts(dataset)
        reports["text"] = _embed(workspace, encoders.text, texts, len(dataset.items), "text")
        if dataset.users is not None:
            profiles = _profiles(dataset)
            reports["users"] = _embed(workspace, encoders.text, profiles, len(dataset.users), "users")
    _keep_encoders(workspace, encoders, spaces)
    return Embedded(_line_up(workspace, dataset, spaces, reports), reports)


def encoders_key(spaces: Mapping[str, EmbeddingSpace]) -> str:
    """Key of the artifact that holds the ONNX form of the encoders of these spaces."""
    return fingerprint({name: space.space_id for name, space in spaces.items()})


def _embed(workspace: Workspace, encoder: Encoder, items: Iterator[Item], n_items: int, label: str) -> EmbedReport:
    folder = store_folder(workspace.root / "artifacts" / "embeddings", encoder.space)
    with progress_bar(f"embed {label}") as bar:
        report = embed_items(
            items,
            encoder,
            folder if label != "users" else folder.with_name(folder.name + "-users"),
            shard_size=workspace.config.encoders.shard_size,
            on_progress=lambda seen, _encoded: bar(seen, n_items),
        )
    console.print(
        f"  {label}: {report.n_encoded} encoded, {report.n_reused} known already, {report.n_duplicates} duplicates, "
        f"{report.n_absent} without, {report.n_failed} refused  [dim]{encoder.space.encoder}[/]"
    )
    for rejected in report.rejected[:5]:
        console.print(f"    [yellow]{escape(rejected.item_id)}[/]: {escape(rejected.reason)}")
    return report


def items_folder(workspace: Workspace) -> Path:
    """The folder of the items file: pictures are named relative to it."""
    items_file = workspace.config.data.items_file
    return (workspace.data_dir / items_file).parent if items_file else workspace.data_dir


def _images(dataset: Dataset, folder: Path) -> Iterator[Item]:
    ids, images = dataset.items["item_id"].to_pylist(), dataset.items["image"].to_pylist()
    for item_id, image in zip(ids, images, strict=True):
        yield item_id, None if image is None else _reader(folder, image)


def _reader(folder: Path, image: str) -> Callable[[], bytes]:
    def read() -> bytes:
        if image.lower().startswith(("http://", "https://")):
            raise InputError("URLs are not fetched by this version: download the picture and give its path")
        return (folder / image).read_bytes()

    return read


def _texts(dataset: Dataset) -> Iterator[Item]:
    columns = (dataset.items[name].to_pylist() for name in ("item_id", "title", "description", "categories"))
    for item_id, title, description, categories in zip(*columns, strict=True):
        yield item_id, item_text(title, description, categories or ())


def _profiles(dataset: Dataset) -> Iterator[Item]:
    assert dataset.users is not None
    yield from zip(dataset.users["user_id"].to_pylist(), profile_texts(dataset), strict=True)


def profile_texts(dataset: Dataset) -> Sequence[str | None]:
    """What each user told about themselves, in the order of the users; None where they told nothing."""
    assert dataset.users is not None
    columns = (dataset.users[name].to_pylist() for name in ("attributes", "text"))
    return [
        profile_text(json.loads(attributes) if attributes else {}, text)
        for attributes, text in zip(*columns, strict=True)
    ]


def _keep_encoders(workspace: Workspace, encoders: EncoderPair, spaces: Mapping[str, EmbeddingSpace]) -> None:
    """The encoders as ONNX: what a release carries, so that the service encodes new items without torch."""

    def fill(folder: Path) -> dict[str, Any]:
        for encoder in (encoders.image, encoders.text):
            if encoder is not None:
                export(encoder, folder)
        return {}

    made_from = {"spaces": {name: space.model_dump() for name, space in spaces.items()}}
    write_artifact(workspace.root, "encoders", encoders_key(spaces), made_from, fill)


def _line_up(
    workspace: Workspace,
    dataset: Dataset,
    spaces: Mapping[str, EmbeddingSpace],
    reports: Mapping[str, EmbedReport],
) -> Content:
    """The artifact `content`: float16 [N, D] and bool [N] for each modality, rows as in the dataset's items."""

    def fill(folder: Path) -> dict[str, Any]:
        ids = dataset.items["item_id"].to_pylist()
        for name, space in spaces.items():
            _save(folder, name, _vectors(workspace, space, reports[name], ids))
        if "users" in reports and dataset.users is not None:
            user_ids = dataset.users["user_id"].to_pylist()
            _save(folder, "users", _vectors(workspace, spaces["text"], reports["users"], user_ids, "-users"))
        return {name: _held(report) for name, report in reports.items()}

    hashes = {name: text_hash(repr(sorted(report.content_hashes.items()))) for name, report in reports.items()}
    made_from = {
        "content_of": dataset.content_key,
        "spaces": {name: space.model_dump() for name, space in spaces.items()},
        "content_hashes": hashes,
    }
    write_artifact(workspace.root, "content", fingerprint(made_from), made_from, fill)
    return load_content(workspace, dataset)


def _vectors(
    workspace: Workspace, space: EmbeddingSpace, report: EmbedReport, ids: Sequence[str], suffix: str = ""
) -> tuple[Any, Any]:
    folder = store_folder(workspace.root / "artifacts" / "embeddings", space)
    return gather(folder.with_name(folder.name + suffix), space, [report.content_hashes.get(each) for each in ids])


def _save(folder: Path, name: str, gathered: tuple[Any, Any]) -> None:
    vectors, present = gathered
    np.save(folder / f"{name}.npy", vectors.astype(np.float16))
    np.save(folder / f"{name}_present.npy", present)


def _figures(report: EmbedReport) -> dict[str, Any]:
    """What this run did."""
    return {
        "items": report.n_items,
        "encoded": report.n_encoded,
        "known_already": report.n_reused,
        "saved_encodes": report.n_duplicates,
        "absent": report.n_absent,
        "refused": report.n_failed,
    }


def _held(report: EmbedReport) -> dict[str, Any]:
    """What the vectors are of, however many runs it took to make them."""
    return {
        "items": report.n_items,
        "with_content": len(report.content_hashes),
        "distinct": len(set(report.content_hashes.values())),
        "absent": report.n_absent,
        "refused": report.n_failed,
    }
