"""The vectors that tagging heads read, lined up with the dataset's items; made by the embedding job, once.

A head may want another encoder than the release's (`[tagging.image] encoder`): each embedding space has a store of its
own, so neither job undoes what the other did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from embeddings.contents import Item
from embeddings.embed import EmbedReport
from embeddings.encoder import Encoder
from embeddings.registry import load_encoders
from embeddings.sources.reader import CatalogueReader
from embeddings.stored import gather, gather_records
from jobs.artifacts import Dataset
from jobs.embed import item_texts
from jobs.embed_streams import EmbedChoice, Stream, embed_stream, n_threads, reader_of, references_of
from jobs.progress import console
from jobs.transcripts import transcripts
from recsys.errors import ConfigError
from recsys.manifest import EmbeddingSpace
from recsys.workspace import Workspace

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Vectors = dict[str, tuple[Floats, Mask]]

MODALITIES = ("image", "text", "audio", "transcript")
TFLITE = "tflite:"


@dataclass(frozen=True)
class TagContent:
    """One kind of content of `N` items, as one encoder knows it.

    Attributes:
        report: of the embedding job, with what was refused.
        hashes: content hash of each item, None where there is nothing to judge by.
    """

    stream: Stream
    report: EmbedReport
    hashes: Sequence[str | None]

    @property
    def space(self) -> EmbeddingSpace:
        return self.stream.encoder.space

    @property
    def present(self) -> Mask:
        return np.array([each is not None for each in self.hashes], dtype=np.bool_)

    def refused_ids(self) -> set[str]:
        """Items that have content which could not be had, decoded or encoded."""
        return {each.item_id for each in self.report.rejected}

    def vectors(self, workspace: Workspace, dtype: type[np.floating[Any]] = np.float32) -> tuple[Any, Mask]:
        """`dtype` [N, D], bool [N]; float16 for whole catalogues."""
        return gather(self.stream.store(workspace), self.space, self.hashes, dtype)

    def records(self, workspace: Workspace) -> list[dict[str, object] | None]:
        return gather_records(self.stream.store(workspace), self.space, self.hashes)


def tag_vectors(
    workspace: Workspace,
    dataset: Dataset,
    modalities: Sequence[str],
    choice: EmbedChoice | None = None,
    *,
    encoders: Mapping[str, str] | None = None,
) -> tuple[Vectors, dict[str, EmbeddingSpace]]:
    """modality → (float32 [N, D], bool [N] present), and → its embedding space; arguments as in `tag_contents`."""
    contents = tag_contents(workspace, dataset, modalities, choice, encoders=encoders)
    vectors = {name: each.vectors(workspace) for name, each in contents.items()}
    return vectors, {name: each.space for name, each in contents.items()}


def tag_contents(
    workspace: Workspace,
    dataset: Dataset,
    modalities: Sequence[str],
    choice: EmbedChoice | None = None,
    *,
    encoders: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    shard_size: int = 0,
) -> dict[str, TagContent]:
    """Embed what no earlier run embedded; a modality whose encoder is `none` is left out.

    Args:
        encoders: modality → encoder, in place of the configuration's.
        shard_size: contents of a shard at most; 0 = as configured.
        names: modality → name of its stream in progress bars and quarantines, where it is not the modality's.

    Raises:
        ConfigError: a modality that there is none of, or an encoder that cannot be had; also as `embed_stream`.
    """
    unknown = [name for name in modalities if name not in MODALITIES]
    if unknown:
        raise ConfigError(f"there is no content called {', '.join(unknown)}: the kinds are {', '.join(MODALITIES)}")
    choice = choice or EmbedChoice()
    specs = {**encoder_specs(workspace), **(encoders or {})}
    found: dict[str, TagContent] = {}
    reader = reader_of(workspace, retry_failed=choice.retry_failed)
    try:
        for name in modalities:
            encoder = _encoder(workspace, name, specs[name], choice)
            if encoder is None:
                continue
            stream = _stream(workspace, dataset, name, specs[name], encoder, reader, (names or {}).get(name, name))
            stream = replace(stream, shard_size=shard_size)
            report = embed_stream(workspace, stream, reader, choice)
            hashes = [report.content_hashes.get(each) for each in dataset.vocabulary.item_ids]
            found[name] = TagContent(stream, report, hashes)
        for finding in reader.findings():
            console.print(f"  [yellow]{escape(finding)}[/]", soft_wrap=True)
    finally:
        reader.close()
    return found


def encoder_specs(workspace: Workspace) -> dict[str, str]:
    """modality → the encoder whose vectors its heads read."""
    embed, tagging = workspace.config.encoders, workspace.config.tagging
    return {
        "image": tagging.image.encoder or embed.image,
        "audio": _beside(workspace, tagging.audio.encoder) or embed.audio,
        "text": embed.text,
        "transcript": embed.text,
    }


def _beside(workspace: Workspace, spec: str) -> str:
    """A tflite file's path begins at the workspace, as that of a detector does."""
    is_file = spec.startswith(TFLITE)
    return f"{TFLITE}{workspace.root / spec.removeprefix(TFLITE)}" if is_file else spec


def _encoder(workspace: Workspace, name: str, spec: str, choice: EmbedChoice) -> Encoder | None:
    settings = workspace.config.encoders
    modality = "text" if name == "transcript" else name
    specs = {"image": "none", "text": "none", "audio": "none", modality: spec}
    pair = load_encoders(
        specs["image"],
        specs["text"],
        specs["audio"],
        device="cpu" if choice.engine else settings.device,
        threads=n_threads(workspace),
        precision=settings.precision,
        compile=settings.compile,
    )
    encoder: Encoder | None = getattr(pair, modality)
    return encoder


def _stream(
    workspace: Workspace,
    dataset: Dataset,
    modality: str,
    spec: str,
    encoder: Encoder,
    reader: CatalogueReader,
    name: str,
) -> Stream:
    ids = dataset.vocabulary.item_ids
    if modality == "image" or modality == "audio":
        column = cast('Literal["image", "audio"]', modality)
        return Stream(name, spec, encoder, references_of(dataset, column, reader), len(ids), reads=True)
    if modality == "text":
        return Stream(name, spec, encoder, item_texts(workspace, dataset), len(ids))
    spoken = transcripts(workspace)
    said: Sequence[Item] = [(item_id, spoken.get(item_id)) for item_id in ids]
    return Stream(name, spec, encoder, iter(said), len(ids), suffix="-transcript")
