"""One kind of content of a dataset through the embedding job, by whatever engine: what `embed` and `tag` share."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape

from embeddings.contents import Item, Rejected
from embeddings.embed import EmbedOptions, EmbedProgress, EmbedReport, embed_items
from embeddings.encoder import Encoder
from embeddings.engines.run import EngineConfig, embed_with_engine
from embeddings.engines.spec import ReaderSpec, WorkerSpec
from embeddings.reading import ContentReader
from embeddings.registry import n_gpus
from embeddings.shards import store_folder, write_atomically
from embeddings.sources.reader import CatalogueReader, open_reader
from jobs.artifacts import Dataset
from jobs.progress import busy_bar, console
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
        shard_size: contents of a shard at most, where they take long; 0 = as configured.
    """

    name: str
    spec: str
    encoder: Encoder
    items: Iterator[Item]
    n_items: int
    suffix: str = ""
    reads: bool = False
    shard_size: int = 0

    def store(self, workspace: Workspace) -> Path:
        folder = store_folder(embeddings_folder(workspace), self.encoder.space)
        return folder.with_name(folder.name + self.suffix)


def embed_stream(workspace: Workspace, stream: Stream, reader: ContentReader, choice: EmbedChoice) -> EmbedReport:
    """Encode what no earlier run encoded; what is refused goes to the stream's quarantine. Raises as `embed_items`."""
    options = EmbedOptions(
        shard_size=min(workspace.config.encoders.shard_size, stream.shard_size or workspace.config.encoders.shard_size),
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
        f"  [dim]{stream.encoder.space.encoder.partition(' {')[0]} ({report.compute})[/]"
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


def references_of(dataset: Dataset, column: Literal["image", "audio"], reader: CatalogueReader) -> Iterator[Item]:
    """(item_id, what names its picture or sound) of each item, in order."""
    for item_id, named in zip(dataset.items["item_id"].to_pylist(), dataset.items[column].to_pylist(), strict=True):
        yield item_id, reader.reference_for(item_id, named, column)


def items_folder(workspace: Workspace) -> Path:
    """The folder of the items file: pictures are named relative to it."""
    items_file = workspace.config.data.items_file
    return (workspace.data_dir / items_file).parent if items_file else workspace.data_dir


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
    """Of an embedding job."""
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
