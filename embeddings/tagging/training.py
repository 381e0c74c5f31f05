"""Fits a head on frozen vectors: AdamW, early stopping, then once more on everything for as long as was best.

Letters: N items, C tags, L = C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embeddings.tagging.heads import Vectors
from embeddings.tagging.network import HeadNetwork, Inputs, Scaling
from recsys.errors import InputError
from recsys.tagging_config import TagTrainingConfig

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

VALIDATION_SHARE = 0.15
MANY = 50_000
FEWEST_FOR_VALIDATION = 20
STEPS_AN_EPOCH = 8
SMALLEST_BATCH, LARGEST_BATCH = 16, 1024
LARGEST_CLASS_WEIGHT = 30.0
RATE_IS_OF_WIDTH, MOST_FASTER = 1024, 8.0
MODALITY_DROPOUT = 0.1
"""How often a modality that is there is left out of a training row, so that a head of several learns to do without."""

TEMPERATURES = tuple(2 ** (power / 4) for power in range(-16, 5))

STRONGEST_PENALTY, WEAKEST_PENALTY = 30.0, 1e-3
"""Half of it times the squared weights is added to the sum of all losses; 1 / C, as scikit-learn calls it. It falls by
one factor an epoch, so that the best epoch is the best penalty: a path from heads that know little to ones that know
their items by heart."""

OnEpoch = Callable[[int, int], None]
"""Called with (epochs done, the most there will be)."""


@dataclass(frozen=True)
class TrainingSet:
    """What a head is fitted on.

    Attributes:
        vectors: modality → float32 [N, D_m], bool [N]; each item has at least one.
        y: float32 [N, C], 1 = yes.
        known: bool [N, C]; what is False there, nobody said.
        exclusive: each item has one of the tags: cross-entropy instead of a yes or no for each tag.
        weight: float32 [N], how much an item counts; None = all the same.
        guessed: bool [N], whose `y` is what a head said: learned from, never validated on. None = no item's.
    """

    vectors: Vectors
    y: Floats
    known: Mask
    exclusive: bool
    weight: Floats | None = None
    guessed: Mask | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Rows) -> TrainingSet:
        vectors = {name: (x[rows], present[rows]) for name, (x, present) in self.vectors.items()}
        weight = None if self.weight is None else self.weight[rows]
        guessed = None if self.guessed is None else self.guessed[rows]
        return TrainingSet(vectors, self.y[rows], self.known[rows], self.exclusive, weight, guessed)

    def with_more(self, more: TrainingSet) -> TrainingSet:
        """These items, then those of `more`."""
        vectors = {
            name: (np.concatenate([x, more.vectors[name][0]]), np.concatenate([present, more.vectors[name][1]]))
            for name, (x, present) in self.vectors.items()
        }
        both = (self, more)
        weight = np.concatenate(
            [np.ones(len(each), np.float32) if each.weight is None else each.weight for each in both]
        )
        guessed = np.concatenate(
            [np.zeros(len(each), np.bool_) if each.guessed is None else each.guessed for each in both]
        )
        y, known = np.concatenate([self.y, more.y]), np.concatenate([self.known, more.known])
        return TrainingSet(vectors, y, known, self.exclusive, weight, guessed)


@dataclass(frozen=True)
class Fitted:
    """Weights for `heads.Head`, and after how many epochs."""

    weights: dict[str, Floats]
    epochs: int


def fit(data: TrainingSet, config: TagTrainingConfig, *, seed: int, on_epoch: OnEpoch | None = None) -> Fitted:
    """The weights that `Head` evaluates; the same data, settings and seed give the same ones.

    A part of the data says after how many epochs the loss is lowest; with that number all of it is fitted. With few
    items (`FEWEST_FOR_VALIDATION`) all epochs are run.

    Raises:
        InputError: no item, or nothing known of them.
    """
    if not len(data) or not data.known.any():
        raise InputError("there is nothing to learn from: no labelled item has a vector that this head reads")
    with _few_threads(len(data)):
        return _fit(data, config, seed=seed, on_epoch=on_epoch)


def _fit(data: TrainingSet, config: TagTrainingConfig, *, seed: int, on_epoch: OnEpoch | None) -> Fitted:
    rng = np.random.default_rng(seed)
    epochs = config.max_epochs
    if len(data) >= FEWEST_FOR_VALIDATION:
        validation = validation_rows(data, rng)
        training = np.setdiff1d(np.arange(len(data)), validation)
        epochs = _best_epoch(data.take(training), data.take(validation), config, seed=seed, on_epoch=on_epoch)
    run = _Run(data, config, seed=seed)
    for _ in range(epochs):
        run.epoch()
    return Fitted(run.network.folded(), epochs)


@contextmanager
def _few_threads(n_items: int) -> Iterator[None]:
    """Steps of some hundred items are over before threads have met, and on a busy machine they wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if n_items < MANY else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def validation_rows(data: TrainingSet, rng: np.random.Generator) -> Rows:
    """int64, sorted: a share of the items, drawn so that a tag with few of them is in both parts where it can be."""
    share = VALIDATION_SHARE
    rarest = np.where(data.known & (data.y > 0), (data.y * data.known).sum(axis=0), np.inf).argmin(axis=1)
    order = rng.permutation(len(data) if data.guessed is None else np.flatnonzero(~data.guessed))
    by_tag = order[np.argsort(rarest[order], kind="stable")]
    places = np.arange(len(by_tag))
    chosen = np.floor((places + 1) * share) > np.floor(places * share)
    return np.sort(by_tag[chosen])


def class_weights(data: TrainingSet, *, wanted: bool) -> Floats:
    """float32 [C]. Exclusive tags: N / (C n_c); else how much a yes counts beside a no: the no's over the yes's."""
    yes = (data.y * data.known).sum(axis=0)
    if not wanted:
        return np.ones(len(yes), np.float32)
    of = yes.sum() / max(len(yes), 1) if data.exclusive else ((1 - data.y) * data.known).sum(axis=0)
    weights: Floats = np.clip(of / np.maximum(yes, 1), 1 / LARGEST_CLASS_WEIGHT, LARGEST_CLASS_WEIGHT)
    return weights.astype(np.float32)


def loss_of(logits: Tensor, y: Tensor, known: Tensor, weight: Tensor, class_weight: Tensor, exclusive: bool) -> Tensor:
    """The mean over what is known, float32 [].

    Exclusive: -log of what the softmax gives to the tags that it may still be: the one said to be right, or all that
    were not said to be wrong. Else: binary cross-entropy of the known pairs.
    """
    if exclusive:
        possible = torch.where((known & (y > 0)).any(dim=1, keepdim=True), known & (y > 0), ~known | (y > 0))
        lost = -torch.logsumexp(torch.log_softmax(logits, dim=1).masked_fill(~possible, -torch.inf), dim=1)
        said = torch.where(possible.sum(dim=1) == 1, (possible * class_weight).sum(dim=1), 1.0) * weight
        return (lost * said).sum() / said.sum().clamp_min(1e-9)
    lost = torch.nn.functional.binary_cross_entropy_with_logits(logits, y, pos_weight=class_weight, reduction="none")
    counted = known * weight[:, None]
    return (lost * counted).sum() / counted.sum().clamp_min(1e-9)


class _Run:
    """One network in training, epoch by epoch."""

    def __init__(self, data: TrainingSet, config: TagTrainingConfig, *, seed: int) -> None:
        scalings = {name: Scaling.of(*pair) for name, pair in data.vectors.items()}
        n_labels = data.y.shape[1]
        self.network = HeadNetwork(scalings, n_labels, fusion=config.fusion, hidden=config.hidden, seed=seed)
        self.exclusive = data.exclusive
        self.temperatures = (1.0,) if config.calibration == "none" else TEMPERATURES
        self.class_weight = torch.from_numpy(class_weights(data, wanted=config.class_weights))
        self._begin_at_the_shares(data)
        self.inputs, self.targets = self.network.inputs(data.vectors), _targets(data)
        self.optimizer = torch.optim.AdamW(
            _groups(self.network, config.learning_rate), weight_decay=config.weight_decay
        )
        self.rng = np.random.default_rng([seed, 1])
        n_losses = len(data) if data.exclusive else data.known.sum()
        self.penalty = 0.0 if config.hidden else STRONGEST_PENALTY / max(float(n_losses), 1.0)
        self.falls = (WEAKEST_PENALTY / STRONGEST_PENALTY) ** (1 / config.max_epochs)

    def epoch(self) -> None:
        """One pass, in an order of its own."""
        for rows in self._batches(len(self.targets[0])):
            inputs = {name: (x[rows], present[rows]) for name, (x, present) in self.inputs.items()}
            logits = self.network(self._with_dropout(inputs))
            y, known, weight = (each[rows] for each in self.targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss_of(logits, y, known, weight, self.class_weight, self.exclusive)
            if self.penalty:
                loss = loss + self.penalty / 2 * self.network.squared_weights()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        self.penalty *= self.falls

    def loss(self, inputs: Inputs, targets: tuple[Tensor, Tensor, Tensor]) -> float:
        """Of these items, at the temperature that suits them best, which calibration finds again later.

        A strong penalty makes heads that order well and are too shy: see Berta et al., "Rethinking Early Stopping:
        Refine, Then Calibrate", 2025.
        """
        with torch.no_grad():
            logits = self.network(inputs)
            tried = (loss_of(logits / t, *targets, self.class_weight, self.exclusive) for t in self.temperatures)
            return min(float(lost) for lost in tried)

    def _batches(self, n: int) -> Iterator[Tensor]:
        size = min(max(n // STEPS_AN_EPOCH, SMALLEST_BATCH), LARGEST_BATCH)
        order = torch.from_numpy(self.rng.permutation(n))
        yield from torch.split(order, size)

    def _with_dropout(self, inputs: Inputs) -> Inputs:
        if len(inputs) == 1:
            return inputs
        present = np.stack([there.numpy() for _, there in inputs.values()], axis=1)
        kept = present & (self.rng.random(present.shape) >= MODALITY_DROPOUT)
        kept = np.where(kept.any(axis=1, keepdims=True), kept, present)
        masks = (torch.from_numpy(np.ascontiguousarray(column)) for column in kept.T)
        return {name: (x * there[:, None], there) for (name, (x, _)), there in zip(inputs.items(), masks, strict=True)}

    def _begin_at_the_shares(self, data: TrainingSet) -> None:
        """So that the first steps are not spent on learning which tags are frequent."""
        bias = self.network.label_bias
        if bias is None:
            return
        weight = self.class_weight.numpy()
        yes = (data.y * data.known).sum(axis=0) * weight + 0.5
        no = ((1 - data.y) * data.known).sum(axis=0) + 0.5
        start = np.log(yes / yes.sum()) if data.exclusive else np.log(yes / no)
        with torch.no_grad():
            bias.copy_(torch.from_numpy(start.astype(np.float32)))


def _best_epoch(
    training: TrainingSet,
    validation: TrainingSet,
    config: TagTrainingConfig,
    *,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> int:
    run = _Run(training, config, seed=seed)
    inputs, targets = run.network.inputs(validation.vectors), _targets(validation)
    best, best_epoch = float("inf"), 1
    for epoch in range(1, config.max_epochs + 1):
        run.epoch()
        lost = run.loss(inputs, targets)
        if lost < best:
            best, best_epoch = lost, epoch
        if on_epoch is not None:
            on_epoch(epoch, config.max_epochs)
        if epoch - best_epoch >= config.patience:
            break
    return best_epoch


def _groups(network: HeadNetwork, learning_rate: float) -> list[dict[str, Any]]:
    """Parameters and their learning rates: a step moves each weight by about its rate whatever D is, and so a logit by
    about the rate times the square root of D."""
    groups: list[dict[str, Any]] = []
    for name, parameter in network.named_parameters():
        wide = len(parameter) if name.startswith(("project.", "gate.")) else RATE_IS_OF_WIDTH
        faster = min((RATE_IS_OF_WIDTH / wide) ** 0.5, MOST_FASTER)
        groups.append({"params": [parameter], "lr": learning_rate * faster})
    return groups


def _targets(data: TrainingSet) -> tuple[Tensor, Tensor, Tensor]:
    weight = np.ones(len(data), np.float32) if data.weight is None else data.weight
    return (
        torch.from_numpy(data.y.astype(np.float32)),
        torch.from_numpy(data.known.copy()),
        torch.from_numpy(weight.astype(np.float32)),
    )
