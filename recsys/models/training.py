"""Fit the two-tower model: `train` is the whole run; the rest of this file is its steps, in the same order.

A run is a function of data and settings. Killed anywhere and started again with the same checkpoint folder, it ends
with bit-equal weights (at the same number of threads and ranks).
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from recsys.config import Config
from recsys.dataset import ItemContent, Sequences, Split, UserContent
from recsys.manifest import fingerprint
from recsys.models.batches import DataPosition, Profiles, TrainingBatches
from recsys.models.budget import token_budget
from recsys.models.checkpoints import TrainingState, Validation, latest_state, load_tensors, save_checkpoint
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.models.distributed import make_learner, process_group, training_device, whole
from recsys.models.model import TrainedModel, spec_of
from recsys.models.two_tower import TwoTower, TwoTowerSpec
from recsys.models.validation import Judge

LOG_EVERY_STEPS = 10


@dataclass(frozen=True)
class Progress:
    """What a run reports after every step.

    Attributes:
        loss: mean over the step's interactions of rank 0.
        ndcg_at_10: of the latest validation, None before the first.
    """

    step: int
    tokens: int
    max_tokens: int
    loss: float
    ndcg_at_10: float | None


class TrainingSummary(Config):
    """How a run went; no times, so that the same run gives the same summary.

    Attributes:
        best_step: the step whose weights were kept.
        best_ndcg_at_10: on the validation users; None without validation.
    """

    steps: int
    tokens: int
    max_tokens: int
    best_step: int
    best_ndcg_at_10: float | None
    validations: tuple[Validation, ...]
    loss: str
    table_optimizer: str
    n_ranks: int


@dataclass(frozen=True)
class TrainingData:
    """What a model is fitted on.

    Attributes:
        sequences: the interactions to learn from.
        validation: judges the model while it trains; None = train the whole budget, keep the last weights.
        content: of all `N` items, in row order.
        user_content: profiles, or None.
        vocabulary_checksum: of the item ids, in row order.
    """

    sequences: Sequences
    validation: Split | None
    content: ItemContent
    user_content: UserContent | None
    vocabulary_checksum: str


def train(
    data: TrainingData,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    checkpoint_dir: Path,
    log_dir: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[TrainedModel, TrainingSummary]:
    """Fit the towers, or go on from the last checkpoint in `checkpoint_dir`; every rank gets the same result.

    Args:
        log_dir: TensorBoard scalars go here (rank 0).
        on_progress: called after each step, on rank 0.

    Raises:
        ConfigError: `checkpoint_dir` holds checkpoints of other data or settings.
        ValueError: there is nothing to learn from.
    """
    if not data.sequences.n_events:
        raise ValueError("training needs at least one interaction")
    spec = spec_of(data.sequences, data.content, data.user_content, model, data.vocabulary_checksum)
    device = training_device()
    with _threads(training.threads), _quiet(), process_group(device), torch.random.fork_rng():
        run = _Run(data, spec, training, checkpoint_dir, device)
        writer = SummaryWriter(str(log_dir), purge_step=run.state.step + 1) if log_dir and run.leads else None
        while not run.finished:
            loss = run.step()
            if run.leads:
                _report(run, loss, writer, on_progress)
        if writer is not None:
            writer.close()
        return run.result()


class _Run:
    """One run in progress: the model, what updates it, and where it stands."""

    def __init__(
        self, data: TrainingData, spec: TwoTowerSpec, training: TrainingConfig, folder: Path, device: torch.device
    ) -> None:
        torch.manual_seed(training.seed)
        self.spec, self.training, self.folder, self.device = spec, training, folder, device
        self.rank, self.n_ranks = dist.get_rank(), dist.get_world_size()
        self.leads = self.rank == 0
        self.max_tokens = training.max_tokens or token_budget(spec.n_items, data.sequences.n_events, spec.model.dim)
        profiles = None
        if data.user_content is not None:
            profiles = Profiles.of(data.user_content, data.sequences.user_ids)
        self.batches = TrainingBatches(
            data.sequences, data.content, profiles, spec.model, training, rank=self.rank, n_ranks=self.n_ranks
        )
        self.learner = make_learner(TwoTower(spec), spec.n_items, training, device)
        self.judge = None
        if data.validation is not None and len(data.validation.target_users):
            self.judge = Judge(data.validation, data.content, profiles, self.batches.trained, spec.model, training)
        made_from = fingerprint_of(data, spec, training)
        self.state = latest_state(folder, made_from) or TrainingState(made_from=made_from)
        if self.state.step:
            load_tensors(folder, self.state.step, self.learner.weights(), self.learner.optimizer_state())
            self.learner.set_step(self.state.step)

    @property
    def finished(self) -> bool:
        spent = self.state.tokens >= self.max_tokens
        return spent or (self.judge is not None and self.state.n_without_gain >= self.training.patience)

    def step(self) -> torch.Tensor:
        """One update, then a validation and a checkpoint when they are due. Returns rank 0's mean loss."""
        at = self.state.position
        torch.manual_seed(_seed(self.training.seed, self.state.step, self.rank))
        loss = self.learner.step(self.batches.batch(at).to(self.device), self._learning_rate_share())
        index = at.index + 1
        ended = index >= self.batches.n_batches(at.epoch)
        tokens = self.state.tokens + self.batches.n_tokens(at)
        position = DataPosition(epoch=at.epoch + 1) if ended else DataPosition(epoch=at.epoch, index=index)
        update = {"step": self.state.step + 1, "tokens": tokens, "position": position}
        self.state = self.state.model_copy(update=update)
        validated = self._validate_when_due()
        if validated or self.finished or self.state.step % self.training.checkpoint_every_steps == 0:
            save_checkpoint(self.folder, self.state, self.learner.weights(), self.learner.optimizer_state())
        return loss

    def _learning_rate_share(self) -> float:
        """Linear rise by steps, then half a cosine by tokens: Loshchilov and Hutter, "SGDR", 2017, without restarts."""
        rise = min(1.0, (self.state.step + 1) / max(1, self.training.warmup_steps))
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, self.state.tokens / self.max_tokens)))
        last = self.training.final_learning_rate
        return rise * (last + (1 - last) * fall)

    def _validate_when_due(self) -> bool:
        due = self.state.tokens * self.training.n_evaluations // self.max_tokens
        if self.judge is None or min(due, self.training.n_evaluations) <= self._n_due_before:
            return False
        ndcg = self.judge.ndcg_at_10(self.learner.towers)
        seen = Validation(step=self.state.step, tokens=self.state.tokens, ndcg_at_10=ndcg)
        self.state = self.state.model_copy(update={"validations": (*self.state.validations, seen)})
        return True

    @property
    def _n_due_before(self) -> int:
        last = self.state.validations[-1].tokens if self.state.validations else 0
        return min(last * self.training.n_evaluations // self.max_tokens, self.training.n_evaluations)

    def result(self) -> tuple[TrainedModel, TrainingSummary]:
        """The best weights, in one piece."""
        best = self.state.best
        best_step = best.step if best else self.state.step
        if best_step != self.state.step:
            load_tensors(self.folder, best_step, self.learner.weights())
        model = TrainedModel.of(self.spec, whole(self.learner.weights()), self.batches.trained)
        summary = TrainingSummary(
            steps=self.state.step,
            tokens=self.state.tokens,
            max_tokens=self.max_tokens,
            best_step=best_step,
            best_ndcg_at_10=best.ndcg_at_10 if best else None,
            validations=self.state.validations,
            loss=self.training.loss_for(self.spec.n_items),
            table_optimizer=self.training.table_optimizer_for(self.spec.n_items),
            n_ranks=self.n_ranks,
        )
        return model, summary


def fingerprint_of(data: TrainingData, spec: TwoTowerSpec, training: TrainingConfig) -> str:
    """Of everything that decides the weights, but for the number of ranks."""
    digest = hashlib.sha256()
    arrays: list[NDArray[Any]] = [data.sequences.offsets, data.sequences.item_rows, data.sequences.event_types]
    for modality in data.content.modalities:
        arrays += [modality.vectors, modality.present]
    if data.validation is not None:
        arrays += [data.validation.target_users, data.validation.target_items, data.validation.history.item_rows]
    if data.user_content is not None:
        arrays += [data.user_content.text.vectors, data.user_content.text.present]
    for array in [*arrays, data.content.categories]:
        digest.update(np.ascontiguousarray(array).data)
    return fingerprint([spec.model_dump(), training.model_dump(), digest.hexdigest()])


def _report(
    run: _Run, loss: torch.Tensor, writer: SummaryWriter | None, on_progress: Callable[[Progress], None]
) -> None:
    state = run.state
    latest = state.validations[-1] if state.validations else None
    ndcg = latest.ndcg_at_10 if latest else None
    mean_loss = float(loss)
    on_progress(Progress(state.step, state.tokens, run.max_tokens, mean_loss, ndcg))
    if writer is None:
        return
    if state.step % LOG_EVERY_STEPS == 0:
        writer.add_scalar("loss", mean_loss, state.step)
        writer.add_scalar("tokens", state.tokens, state.step)
    if latest is not None and latest.step == state.step:
        writer.add_scalar("validation/ndcg@10", latest.ndcg_at_10, state.step)


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)


def _threads(count: int | None) -> AbstractContextManager[None]:
    return nullcontext() if count is None else _FixedThreads(count)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' remarks on their own insides, which tell a user nothing to do."""
    loggers = [logging.getLogger(name) for name in ("torchrec", "torch.fx", "torch.distributed")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    logging.getLogger().addFilter(_not_of_torchrec)  # it also writes to the root logger
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|torchrec|fbgemm_gpu|recsys\.models)(\..*)?$")
        try:
            yield
        finally:
            logging.getLogger().removeFilter(_not_of_torchrec)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _not_of_torchrec(record: logging.LogRecord) -> bool:
    return "torchrec" not in record.pathname


class _FixedThreads(AbstractContextManager[None]):
    """A number of torch threads for the time of a block."""

    def __init__(self, count: int) -> None:
        self._count, self._before = count, torch.get_num_threads()

    def __enter__(self) -> None:
        torch.set_num_threads(self._count)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._before)
