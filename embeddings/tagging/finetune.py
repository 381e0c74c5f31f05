"""Fine-tuning the last blocks of an image encoder on labelled pictures; the result is an encoder of its own.

    decode once → a head on the frozen vectors → adapters and head together → keep the best epoch → merge → ONNX

The head is trained before the adapters, so that they do not begin by undoing what the encoder knows (Kumar et al.,
"Fine-Tuning can Distort Pretrained Features", 2022). It is thrown away: a head is trained as ever on the new vectors.
Norms keep the statistics of their first training, which a few hundred pictures would only blur.

Letters: N pictures, C tags, D width of the vectors, S side of the pictures.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from embeddings.contents import Candidate
from embeddings.encoder import space_of
from embeddings.onnx_encoder import export
from embeddings.prepare import prepared
from embeddings.preprocess.features import Content
from embeddings.preprocess.image import ImagePreprocessor
from embeddings.refused import Refused
from embeddings.registry import ONNX_PREFIX, Device, load_torch_image
from embeddings.tagging.adapters import adaptable_layers, add_adapters, last_blocks, merge_adapters
from embeddings.torch_encoder import TorchEncoder, weights_sha256
from recsys.errors import ConfigError, InputError
from recsys.manifest import EmbeddingSpace
from recsys.tagging_config import TagTrainingConfig

BATCH = 32
VALIDATION_EVERY = 5
"""Every fifth picture, of each class in turn, decides which epoch is the best."""
MIN_PICTURES = 10
ADAPTER_RATE_SHARE = 1 / 3
"""Of the head's learning rate: weights that feed all tags must not follow a single batch."""
MAX_CLASS_WEIGHT = 20.0


@dataclass(frozen=True)
class Judged:
    """How well the validation pictures are told.

    Attributes:
        loss: the one that is trained on.
        right: share of them whose tag is right; where tags may meet, share of known labels that are.
    """

    loss: float
    right: float


@dataclass(frozen=True)
class TuneProgress:
    """How far it is; epoch 0 is the frozen encoder."""

    epoch: int
    n_epochs: int
    validation: Judged


@dataclass(frozen=True)
class FineTuned:
    """What came of it.

    Attributes:
        spec: names the new encoder, as `onnx:<folder>`.
        space: of its vectors.
        layers: that were adapted.
        n_weights: numbers that the adapters learned.
        refused: (row, reason) of pictures that could not be decoded.
        validation_rows: the only pictures whose labels the encoder has not learned from, though they chose the epoch; a
            k-fold report over all pictures flatters a head on its vectors.
        frozen, tuned: validation before, and at the best epoch.
        best_epoch: 0: no epoch helped, and the weights are those of the encoder that it began with.
    """

    spec: str
    space: EmbeddingSpace
    layers: tuple[str, ...]
    n_weights: int
    n_train: int
    refused: tuple[tuple[int, str], ...]
    validation_rows: tuple[int, ...]
    frozen: Judged
    tuned: Judged
    best_epoch: int


def finetune(
    encoder_spec: str,
    pictures: Sequence[bytes],
    labels: NDArray[np.float32],
    known: NDArray[np.bool_],
    config: TagTrainingConfig,
    folder: Path,
    on_progress: Callable[[TuneProgress], None] | None = None,
    *,
    device: Device = "auto",
    decode_workers: int = 2,
) -> FineTuned:
    """Train the last blocks of an image encoder, and write the new encoder to `folder`.

    Where each picture has exactly one tag and all labels are known, by cross-entropy; else by binary cross-entropy over
    those that are known.

    Args:
        pictures: `N` files, read one at a time.
        labels: float32 [N, C], 1 where the tag is right.
        known: bool [N, C].
        folder: an encoder that is there already makes way.
        decode_workers: isolated processes that decode; 0 decodes in this process.

    Raises:
        ConfigError: the encoder cannot be trained on, or its pictures are not square.
        InputError: too few pictures can be read, or the arrays do not fit together.
        WeightsUnavailable, EnvironmentProblem: as `load_encoders`.
    """
    if labels.shape != known.shape or len(labels) != len(pictures):
        raise InputError(f"{len(pictures)} pictures, labels {labels.shape} and known {known.shape} do not fit together")
    encoder = load_torch_image(encoder_spec, device=device)
    if not isinstance(encoder.preprocessor, ImagePreprocessor):
        raise ConfigError(f"{encoder_spec} does not see decoded pictures: choose another encoder")
    with tempfile.TemporaryDirectory(prefix="recsys-finetune-") as scratch:
        decoded = _Decoded(encoder, pictures, Path(scratch), decode_workers)
        if len(decoded.rows) < MIN_PICTURES:
            raise InputError(f"{len(decoded.rows)} pictures can be read, and {MIN_PICTURES} are needed: label more")
        task = _Task(labels[decoded.rows], known[decoded.rows], config)
        run = _Run(encoder, decoded, task, config)
        frozen = run.fit_head()
        if on_progress:
            on_progress(TuneProgress(0, config.lora_epochs, frozen))
        best_epoch, tuned = run.fit_adapters(frozen, on_progress)
    merge_adapters(encoder.tower)
    space = _save(encoder, folder)
    return FineTuned(
        spec=f"{ONNX_PREFIX}{folder}",
        space=space,
        layers=run.layers,
        n_weights=sum(weight.numel() for weight in run.adapters.values()),
        n_train=len(task.train),
        refused=tuple(decoded.refused),
        validation_rows=tuple(int(decoded.rows[place]) for place in task.validation),
        frozen=frozen,
        tuned=tuned,
        best_epoch=best_epoch,
    )


class _Decoded:
    """What the encoder sees of the pictures that can be read, in a file: uint8 [N, S, S, 3].

    Attributes:
        rows: int64, which of the pictures given.
    """

    def __init__(self, encoder: TorchEncoder, pictures: Sequence[bytes], scratch: Path, workers: int) -> None:
        assert isinstance(encoder.preprocessor, ImagePreprocessor)
        side = encoder.preprocessor.config.size
        self._pixels = np.memmap(scratch / "pixels", np.uint8, "w+", shape=(max(len(pictures), 1), side, side, 3))
        self.refused: list[tuple[int, str]] = []
        rows = []
        for row, (_, features) in enumerate(prepared(_contents(pictures), encoder, decode_workers=workers)):
            if isinstance(features, Refused):
                self.refused.append((row, features.reason))
            else:
                self._pixels[row] = features
                rows.append(row)
        self.rows = np.array(rows, np.int64)

    def __getitem__(self, places: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        return [self._pixels[row] for row in self.rows[places]]


class _Task:
    """Labels, their loss, and who validates.

    Attributes:
        train, validation: int64, places among the decoded pictures.
    """

    def __init__(self, labels: NDArray[np.float32], known: NDArray[np.bool_], config: TagTrainingConfig) -> None:
        self.is_choice = bool(known.all() and labels.shape[1] > 1 and np.allclose(labels.sum(axis=1), 1, atol=1e-4))
        self.labels = torch.from_numpy(labels.astype(np.float32))
        self.known = torch.from_numpy(known.astype(np.float32))
        order = np.random.default_rng(config.seed).permutation(len(labels))
        order = order[np.argsort((labels * known)[order].argmax(axis=1), kind="stable")]
        self.validation = np.sort(order[::VALIDATION_EVERY])
        self.train = np.sort(np.setdiff1d(order, self.validation))
        self._weights = self._class_weights() if config.class_weights else torch.ones(labels.shape[1])

    def loss(self, logits: torch.Tensor, places: NDArray[np.int64]) -> torch.Tensor:
        """Mean over the pictures at `places`, or over their known labels."""
        labels, known = self.labels[places].to(logits.device), self.known[places].to(logits.device)
        weights = self._weights.to(logits.device)
        if self.is_choice:
            return torch.nn.functional.cross_entropy(logits, labels, weight=weights)
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=weights, reduction="none"
        )
        return (each * known).sum() / known.sum().clamp(min=1)

    def judged(self, logits: torch.Tensor, places: NDArray[np.int64]) -> Judged:
        labels, known = self.labels[places], self.known[places]
        if self.is_choice:
            right = (logits.argmax(1) == labels.argmax(1)).float().mean()
        else:
            agrees = ((logits > 0) == (labels > 0.5)).float()
            right = (agrees * known).sum() / known.sum().clamp(min=1)
        return Judged(loss=float(self.loss(logits, places)), right=float(right))

    def _class_weights(self) -> torch.Tensor:
        """float32 [C]: rare tags count as much as frequent ones."""
        labels, known = self.labels[self.train], self.known[self.train]
        yes = (labels * known).sum(0)
        if self.is_choice:
            weights = len(labels) / (labels.shape[1] * yes.clamp(min=1))
        else:
            weights = (known.sum(0) - yes) / yes.clamp(min=1)
        return weights.clamp(1 / MAX_CLASS_WEIGHT, MAX_CLASS_WEIGHT)


class _Run:
    """One encoder on one task: first the head, then the adapters under it."""

    def __init__(self, encoder: TorchEncoder, decoded: _Decoded, task: _Task, config: TagTrainingConfig) -> None:
        self.encoder, self.decoded, self.task, self.config = encoder, decoded, task, config
        self.tower = encoder.tower
        example = encoder.pixels(decoded[task.train[:1]])
        self.layers = adaptable_layers(self.tower, last_blocks(self.tower, example, config.lora_blocks))
        self.head = torch.nn.Linear(encoder.space.dim, task.labels.shape[1]).to(example.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.adapters: dict[str, torch.nn.Parameter] = {}

    def fit_head(self) -> Judged:
        """Logistic regression on the frozen vectors, stopped where validation is best."""
        task, config = self.task, self.config
        train, validation = self._vectors(task.train), self._vectors(task.validation)
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        best, kept, waited = self._judge(validation), _copied(self.head.state_dict()), 0
        for _ in range(config.max_epochs):
            optimizer.zero_grad()
            task.loss(self.head(train), task.train).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            judged = self._judge(validation)
            waited = 0 if judged.loss < best.loss else waited + 1
            if not waited:
                best, kept = judged, _copied(self.head.state_dict())
            if waited >= config.patience:
                break
        self.head.load_state_dict(kept)
        return best

    def fit_adapters(self, frozen: Judged, on_progress: Callable[[TuneProgress], None] | None) -> tuple[int, Judged]:
        """(best epoch, its validation); the adapters are left as they were then."""
        config, task = self.config, self.task
        self.adapters = add_adapters(self.tower, self.layers, rank=config.lora_rank, seed=config.seed)
        adapters, rate = list(self.adapters.values()), config.learning_rate
        optimizer = torch.optim.AdamW(
            [{"params": adapters, "lr": rate * ADAPTER_RATE_SHARE}, {"params": self.head.parameters(), "lr": rate}],
            weight_decay=config.weight_decay,
        )
        best, best_epoch, kept = frozen, 0, _copied(self.adapters)
        rng = np.random.default_rng(config.seed)
        for epoch in range(1, config.lora_epochs + 1):
            for places in _batches(rng.permutation(task.train)):
                optimizer.zero_grad()
                task.loss(self.head(self._computed(places)), places).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            judged = self._judge(self._vectors(task.validation))
            if judged.loss < best.loss:
                best, best_epoch, kept = judged, epoch, _copied(self.adapters)
            if on_progress:
                on_progress(TuneProgress(epoch, config.lora_epochs, judged))
        with torch.no_grad():
            for name, weight in self.adapters.items():
                weight.copy_(kept[name])
        return best_epoch, best

    def _computed(self, places: NDArray[np.int64]) -> torch.Tensor:
        """float32 [B, D] of length sqrt(D), so that a number of it is about 1, whatever `D` is."""
        vectors: torch.Tensor = self.tower(self.encoder.pixels(self.decoded[places]))
        return torch.nn.functional.normalize(vectors, dim=1) * math.sqrt(self.encoder.space.dim)

    def _vectors(self, places: NDArray[np.int64]) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([self._computed(some) for some in _batches(places)])

    def _judge(self, vectors: torch.Tensor) -> Judged:
        with torch.no_grad():
            return self.task.judged(self.head(vectors).cpu(), self.task.validation)


def _save(encoder: TorchEncoder, folder: Path) -> EmbeddingSpace:
    """Write the encoder with its new weights as ONNX; its space."""
    preprocessor = encoder.preprocessor
    assert isinstance(preprocessor, ImagePreprocessor)
    # The old space stands for what shapes do not tell, as activations.
    weights = weights_sha256(encoder.tower, {"finetuned": encoder.space.space_id})
    name = f"finetuned:{encoder.space.encoder}"
    space = space_of(name, "image", weights, preprocessor.config, encoder.space.dim)
    tuned = TorchEncoder(encoder.tower, space, preprocessor, input_names=("pixels",))
    # A description beside another one's weights would name the wrong space: it goes first, and comes last.
    (folder / "image_encoder.json").unlink(missing_ok=True)
    export(tuned, folder)
    return space


def _contents(pictures: Sequence[bytes]) -> Iterator[tuple[Candidate, Content]]:
    for row in range(len(pictures)):
        content = pictures[row]
        yield Candidate(str(row), str(row), hashlib.sha256(content).digest()), content


def _batches(places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(places), BATCH):
        yield places[start : start + BATCH]


def _copied(weights: dict[str, torch.Tensor] | dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}
