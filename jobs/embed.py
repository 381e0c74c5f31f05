"""`recsys embed`: pictures, words, sounds and the users' profiles as vectors; only what changed is encoded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from embeddings.contents import Item
from embeddings.embed import EmbedReport
from embeddings.item_text import item_text, profile_text, text_hash
from embeddings.onnx_encoder import export
from embeddings.registry import EncoderPair, load_encoders
from embeddings.sources.reader import CatalogueReader
from embeddings.stored import gather
from jobs.artifacts import Content, Dataset, load_content, load_dataset
from jobs.embed_streams import EmbedChoice, Stream, embed_stream, n_threads, reader_of, references_of
from jobs.progress import console
from jobs.transcripts import transcripts
from recsys.manifest import EmbeddingSpace, fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace


@dataclass
class Embedded:
    """Vectors by modality of one dataset, and what it took to make them."""

    content: Content
    reports: dict[str, EmbedReport] = field(default_factory=dict)


def embed_job(workspace: Workspace, choice: EmbedChoice | None = None) -> tuple[dict[str, Any], int]:
    """Embed the dataset that was validated last; exit code 1 when some content could not be read."""
    embedded = embed_dataset(workspace, load_dataset(workspace), choice)
    summary = {name: _figures(report) for name, report in embedded.reports.items()}
    failed = sum(report.n_failed for report in embedded.reports.values())
    return {"content": embedded.content.key, **summary}, 1 if failed else 0


def embed_dataset(workspace: Workspace, dataset: Dataset, choice: EmbedChoice | None = None) -> Embedded:
    """Encode what no earlier run encoded, and line the vectors up with the dataset's items and users."""
    choice = choice or EmbedChoice()
    settings = workspace.config.encoders
    has_audio = dataset.items["audio"].null_count < len(dataset.items)
    encoders = load_encoders(
        settings.image,
        settings.text,
        settings.audio if has_audio else "none",
        # With an engine, the device is the workers'.
        device="cpu" if choice.engine else settings.device,
        threads=n_threads(workspace),
        precision=settings.precision,
        compile=settings.compile,
    )
    reader = reader_of(workspace, retry_failed=choice.retry_failed)
    try:
        streams = list(_streams(workspace, dataset, encoders, reader))
        reports = {stream.name: embed_stream(workspace, stream, reader, choice) for stream in streams}
        for finding in reader.findings():
            console.print(f"  [yellow]{escape(finding)}[/]", soft_wrap=True)
    finally:
        reader.close()
    spaces = {stream.name: stream.encoder.space for stream in streams if stream.name != "users"}
    _keep_encoders(workspace, encoders, spaces)
    return Embedded(_line_up(workspace, dataset, streams, reports, spaces), reports)


def _streams(
    workspace: Workspace, dataset: Dataset, encoders: EncoderPair, reader: CatalogueReader
) -> Iterator[Stream]:
    """What is there to encode, in the order in which it is encoded."""
    spec, ids = workspace.config.encoders, dataset.items["item_id"].to_pylist()
    if encoders.image is not None:
        named = references_of(dataset, "image", reader)
        yield Stream("image", spec.image, encoders.image, named, len(ids), reads=True)
    if encoders.audio is not None:
        named = references_of(dataset, "audio", reader)
        yield Stream("audio", spec.audio, encoders.audio, named, len(ids), reads=True)
    if encoders.text is None:
        return
    yield Stream("text", spec.text, encoders.text, item_texts(workspace, dataset), len(ids))
    spoken = transcripts(workspace)
    if spoken:
        said = ((item_id, spoken.get(item_id)) for item_id in ids)
        yield Stream("transcript", spec.text, encoders.text, said, len(ids), suffix="-transcript")
    if dataset.users is not None:
        yield Stream("users", spec.text, encoders.text, _profiles(dataset), len(dataset.users), suffix="-users")


def encoders_key(spaces: Mapping[str, EmbeddingSpace]) -> str:
    """Key of the artifact that holds the ONNX form of the encoders of these spaces."""
    return fingerprint({name: space.space_id for name, space in spaces.items()})


def item_texts(workspace: Workspace, dataset: Dataset) -> Iterator[Item]:
    """(item_id, its words by the template) of each item, in order."""
    template = workspace.config.encoders.text_template
    names = ("item_id", "title", "description", "categories", "attributes")
    columns = (dataset.items[name].to_pylist() for name in names)
    for item_id, title, description, categories, attributes in zip(*columns, strict=True):
        told = json.loads(attributes) if attributes else {}
        yield item_id, item_text(title, description, categories or (), told, template)


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
        for encoder in (encoders.image, encoders.text, encoders.audio):
            if encoder is not None:
                export(encoder, folder)
        return {}

    made_from = {"spaces": {name: space.model_dump() for name, space in spaces.items()}}
    write_artifact(workspace.root, "encoders", encoders_key(spaces), made_from, fill)


def _line_up(
    workspace: Workspace,
    dataset: Dataset,
    streams: Sequence[Stream],
    reports: Mapping[str, EmbedReport],
    spaces: Mapping[str, EmbeddingSpace],
) -> Content:
    """The artifact `content`: float16 [N, D] and bool [N] for each modality, rows as in the dataset's items."""

    def fill(folder: Path) -> dict[str, Any]:
        for stream in streams:
            table, column = (dataset.users, "user_id") if stream.name == "users" else (dataset.items, "item_id")
            assert table is not None
            hashes = [reports[stream.name].content_hashes.get(each) for each in table[column].to_pylist()]
            vectors, present = gather(stream.store(workspace), stream.encoder.space, hashes, np.float16)
            np.save(folder / f"{stream.name}.npy", vectors)
            np.save(folder / f"{stream.name}_present.npy", present)
        return {name: _held(report) for name, report in reports.items()}

    hashes = {name: text_hash(repr(sorted(report.content_hashes.items()))) for name, report in reports.items()}
    made_from = {
        "content_of": dataset.content_key,
        "spaces": {name: space.model_dump() for name, space in spaces.items()},
        "content_hashes": hashes,
    }
    write_artifact(workspace.root, "content", fingerprint(made_from), made_from, fill)
    return load_content(workspace, dataset)


def _figures(report: EmbedReport) -> dict[str, Any]:
    """What this run did."""
    return {
        "items": report.n_items,
        "encoded": report.n_encoded,
        "known_already": report.n_reused,
        "duplicates": report.n_duplicates + report.n_same,
        "saved_encodes": report.n_saved,
        "saved_device_s": round(report.saved_device_s, 3),
        "device_s": round(report.device_s, 3),
        "device_busy": round(report.busy, 4),
        "compute": report.compute,
        "absent": report.n_absent,
        "refused": report.n_failed,
        "refused_by_reason": dict(Counter(each.reason for each in report.rejected)),
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
