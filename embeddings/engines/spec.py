"""What a worker is told: one JSON object, so that it travels to other processes and machines as text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from embeddings.batching import BatchLimits
from embeddings.encoder import Encoder
from embeddings.precision import Precision
from embeddings.reading import ContentReader
from embeddings.registry import load_encoders
from embeddings.tagging import crops
from embeddings.tagging.crops import CropReader
from recsys.config import Config
from recsys.errors import ConfigError, EnvironmentProblem
from recsys.manifest import EmbeddingSpace
from recsys.sources_config import SourcesConfig


class ReaderSpec(Config):
    """How a worker opens the reader of pictures and sounds; the folders must be there on its machine too."""

    sources: SourcesConfig = SourcesConfig()
    items_folder: Path
    image_root: str = ""
    cache_folder: Path


class WorkerSpec(Config):
    """Everything that a worker needs.

    Attributes:
        modality: what `encoder` encodes here.
        encoder: as in `[encoders]`.
        device: `auto`, `cpu`, `cuda`, or one of several GPUs as `cuda:1`.
        threads: CPU threads of the encoder, for each worker.
        precision, compile: as `load_encoders` takes them.
        space: of its vectors; a worker whose weights or preprocessing differ refuses to work.
        store_dir: on a file system that all workers share.
        reader: None: the contents are texts, and lie in the plan.
        readers: threads that read contents, for each worker.
        decode_workers: isolated processes that decode, for each worker; 0 decodes in the worker.
        limits: of one forward pass; None takes the encoder's own.
    """

    modality: Literal["image", "text", "audio"]
    encoder: str
    device: str = "auto"
    threads: int = 1
    precision: Precision = "auto"
    compile: bool = False
    space: EmbeddingSpace
    store_dir: Path
    reader: ReaderSpec | None = None
    readers: int = 8
    decode_workers: int = 0
    limits: BatchLimits | None = None


def parse_spec(text: str) -> WorkerSpec:
    """Raises ConfigError: it was written by another version."""
    try:
        return WorkerSpec.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"this worker and the job that started it are of different versions: {error}") from None


def load_encoder(spec: WorkerSpec) -> Encoder:
    """The encoder, on the device named.

    Raises:
        SpaceMismatch: it is not the one that the job was planned for.
        ConfigError, WeightsUnavailable, EnvironmentProblem: as `load_encoders`.
    """
    device = _chosen(spec.device)
    names = {"image": "none", "text": "none", "audio": "none", spec.modality: spec.encoder}
    pair = load_encoders(
        names["image"],
        names["text"],
        names["audio"],
        device=device,
        threads=spec.threads,
        precision=spec.precision,
        compile=spec.compile,
    )
    encoder: Encoder | None = getattr(pair, spec.modality)
    if encoder is None:
        raise ConfigError(f"{spec.encoder} does not encode {spec.modality}: name another encoder")
    spec.space.require(encoder.space)
    return encoder


def open_contents(spec: WorkerSpec) -> ContentReader | None:
    """The reader, of objects for an encoder of objects; None where the plan holds the texts."""
    if spec.reader is None:
        return None
    from embeddings.sources.reader import open_reader

    reader = open_reader(
        spec.reader.sources,
        items_folder=spec.reader.items_folder,
        image_root=spec.reader.image_root,
        cache_folder=spec.reader.cache_folder,
    )
    return CropReader(reader) if spec.encoder.startswith(crops.PREFIX) else reader


def _chosen(device: str) -> Literal["auto", "cpu", "cuda"]:
    """The kind of the device; of several GPUs, the one named becomes this thread's current one."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise ConfigError(f"unknown device {device!r}: write auto, cpu, cuda or cuda:<number>")
    if index:
        import torch

        if int(index) >= torch.cuda.device_count():
            n_seen = torch.cuda.device_count()
            raise EnvironmentProblem(f"{device} is not there: {n_seen} CUDA devices are visible; run `recsys doctor`")
        torch.cuda.set_device(int(index))
    return kind  # type: ignore[return-value]  # one of the three, as checked above
