"""`recsys embed`: pictures, words, sounds and the users' profiles as vectors; only what changed is encoded."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape

from embeddings.contents import Item, Rejected
from embeddings.embed import EmbedOptions, EmbedProgress, EmbedReport, embed_items
from embeddings.encoder import Encoder
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import ReaderSpec, WorkerSpec
from embeddings.item_text import item_text, profile_text, text_hash
from embeddings.onnx_encoder import export
from embeddings.registry import EncoderPair, load_encoders, n_gpus
from embeddings.shards import store_folder, write_atomically
from embeddings.sources.reader import CatalogueReader, open_reader
from embeddings.stored import gather
from jobs.artifacts import Content, Dataset, load_content, load_dataset
from jobs.progress import busy_bar, console
from jobs.transcripts import transcripts
from recsys.manifest import EmbeddingSpace, fingerprint
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace


@dataclass(frozen=True)
class EmbedChoice:
    """What may be said to one run.

    Attributes:
        engine: who encodes; None = this process.
        retry_failed: try again what earlier runs could not fetch, read, decode or encode.
    """

    engine: EngineConfig | None = None
    retry_failed: bool = False


@dataclass(frozen=True)
class Stream:
    """One kind of content of a dataset.

    Attributes:
        name: image, text, transcript, audio or users.
        spec: what the configuration calls its encoder.
        suffix: of the store's folder, where two streams share a space.
        reads: whether its items are references that a reader resolves; else they are texts.
    """

    name: str
    spec: str
    encoder: Encoder
    items: Iterator[Item]
    n_items: int
    suffix: str = ""
    reads: bool = False

    def store(self, workspace: Workspace) -> Path:
        folder = store_folder(embeddings_folder(workspace), self.encoder.space)
        return folder.with_name(folder.name + self.suffix)


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
        reports = {stream.name: _embed(workspace, stream, reader, choice) for stream in streams}
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
        named = _references(dataset, "image", reader)
        yield Stream("image", spec.image, encoders.image, named, len(ids), reads=True)
    if encoders.audio is not None:
        named = _references(dataset, "audio", reader)
        yield Stream("audio", spec.audio, encoders.audio, named, len(ids), reads=True)
    if encoders.text is None:
        return
    yield Stream("text", spec.text, encoders.text, _texts(workspace, dataset), len(ids))
    spoken = transcripts(workspace)
    if spoken:
        said = ((item_id, spoken.get(item_id)) for item_id in ids)
        yield Stream("transcript", spec.text, encoders.text, said, len(ids), suffix="-transcript")
    if dataset.users is not None:
        yield Stream("users", spec.text, encoders.text, _profiles(dataset), len(dataset.users), suffix="-users")


def engine_of(
    kind: Literal["local", "processes", "ray"],
    *,
    devices: str = "",
    workers: int = 2,
    gpus_per_worker: float = 0.0,
    ray_address: str | None = None,
) -> EngineConfig | None:
    """The engine that the command line names; `processes` without devices takes every GPU of this host."""
    if kind == "local":
        return None
    named = tuple(device.strip() for device in devices.split(",") if device.strip())
    if kind == "processes" and not named:
        named = tuple(f"cuda:{number}" for number in range(n_gpus()))
    return EngineConfig(
        kind=kind, workers=workers, devices=named, gpus_per_worker=gpus_per_worker, ray_address=ray_address
    )


def embeddings_folder(workspace: Workspace) -> Path:
    return workspace.root / "artifacts" / "embeddings"


def n_threads(workspace: Workspace) -> int:
    return workspace.config.encoders.threads or os.cpu_count() or 1


def decode_workers(workspace: Workspace) -> int:
    """Processes that decode; 0 = none."""
    wanted = workspace.config.encoders.decode_workers
    return max(wanted, 0) if wanted else n_threads(workspace)


def reader_spec(workspace: Workspace) -> ReaderSpec:
    """What opens the reader of the workspace's pictures and sounds, here and in an engine's workers."""
    return ReaderSpec(
        sources=workspace.config.sources,
        items_folder=items_folder(workspace),
        image_root=workspace.config.data.image_root,
        cache_folder=workspace.root / "artifacts" / "fetched",
    )


def reader_of(workspace: Workspace, *, retry_failed: bool = False) -> CatalogueReader:
    """What reads the pictures and sounds that the dataset's items name."""
    spec = reader_spec(workspace)
    return open_reader(
        spec.sources,
        items_folder=spec.items_folder,
        image_root=spec.image_root,
        cache_folder=spec.cache_folder,
        retry_failed=retry_failed,
    )


def encoders_key(spaces: Mapping[str, EmbeddingSpace]) -> str:
    """Key of the artifact that holds the ONNX form of the encoders of these spaces."""
    return fingerprint({name: space.space_id for name, space in spaces.items()})


def _embed(workspace: Workspace, stream: Stream, reader: CatalogueReader, choice: EmbedChoice) -> EmbedReport:
    options = EmbedOptions(
        shard_size=workspace.config.encoders.shard_size,
        readers=workspace.config.sources.http.total,
        decode_workers=decode_workers(workspace),
        retry_refused=choice.retry_failed,
        references=embeddings_folder(workspace) / stream.name if stream.reads else None,
    )
    reads = reader if stream.reads else None
    with busy_bar(f"embed {stream.name}", stream.n_items) as bar:

        def tell(done: EmbedProgress) -> None:
            bar(done.n_seen, done.busy)

        if choice.engine is None:
            store = stream.store(workspace)
            report = embed_items(stream.items, stream.encoder, store, reader=reads, options=options, on_progress=tell)
        else:
            spec = _worker_spec(workspace, stream, choice.engine)
            report = embed_with_engine(
                stream.items, spec, choice.engine, reader=reads, options=options, on_progress=tell
            )
    _keep_refused(workspace, stream.name, report.rejected)
    _say(stream, report)
    return report


def _worker_spec(workspace: Workspace, stream: Stream, engine: EngineConfig) -> WorkerSpec:
    settings, n_workers = workspace.config.encoders, len(engine.devices) or engine.workers
    share = max(1, n_threads(workspace) // n_workers) if engine.kind == "processes" else n_threads(workspace)
    return WorkerSpec(
        modality=cast('Literal["image", "text", "audio"]', stream.encoder.space.modality),
        encoder=stream.spec,
        device=settings.device,
        threads=settings.threads or share,
        precision=settings.precision,
        compile=settings.compile,
        space=stream.encoder.space,
        store_dir=stream.store(workspace),
        reader=reader_spec(workspace) if stream.reads else None,
        readers=workspace.config.sources.http.total,
        decode_workers=decode_workers(workspace) and share,
    )


def _say(stream: Stream, report: EmbedReport) -> None:
    known = f"{report.n_reused} known already, {report.n_duplicates + report.n_same} duplicates"
    console.print(
        f"  {stream.name}: {report.n_encoded} encoded, {known}, {report.n_absent} without, {report.n_failed} refused"
        f"  [dim]{stream.encoder.space.encoder} ({report.compute})[/]"
    )
    if report.n_encoded:
        saved = (
            f"; {report.n_saved} encodes saved, {report.saved_device_s:.1f} device-seconds" if report.n_saved else ""
        )
        console.print(
            f"    [dim]device busy {report.busy:.0%} of {report.device_s / max(report.busy, 1e-9):.1f} s{saved}[/]"
        )
    for reason, n in Counter(each.reason for each in report.rejected).most_common():
        example = next(each for each in report.rejected if each.reason == reason)
        console.print(
            f"    [yellow]{reason}[/] {n}, as {escape(example.item_id)}: {escape(example.message)}", soft_wrap=True
        )


REFUSED_SCHEMA = pa.schema([(name, pa.string()) for name in ("item_id", "reference", "reason", "message")])


def refused_path(workspace: Workspace, name: str) -> Path:
    """The quarantine of one stream: items whose content has no vector, and why."""
    return embeddings_folder(workspace) / "refused" / f"{name}.parquet"


def _keep_refused(workspace: Workspace, name: str, rejected: Sequence[Rejected]) -> None:
    columns = {column: [getattr(each, column) for each in rejected] for column in REFUSED_SCHEMA.names}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=REFUSED_SCHEMA), sink, compression="zstd")
    write_atomically(refused_path(workspace, name), sink.getvalue().to_pybytes())


def items_folder(workspace: Workspace) -> Path:
    """The folder of the items file: pictures are named relative to it."""
    items_file = workspace.config.data.items_file
    return (workspace.data_dir / items_file).parent if items_file else workspace.data_dir


def _references(dataset: Dataset, column: Literal["image", "audio"], reader: CatalogueReader) -> Iterator[Item]:
    for item_id, named in zip(dataset.items["item_id"].to_pylist(), dataset.items[column].to_pylist(), strict=True):
        yield item_id, reader.reference_for(item_id, named, column)


def _texts(workspace: Workspace, dataset: Dataset) -> Iterator[Item]:
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
