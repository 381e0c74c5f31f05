"""Training checkpoints: safetensors written by torch.distributed.checkpoint, beside one JSON file; no pickle.

    <folder>/step-00000500/     complete exactly when it has this name (it is written under another, then renamed)
        *.safetensors           each rank's shards of weights and optimizer moments
        state.json              step, data position, best so far, what the run was made from

Random state needs no bytes: every stream is seeded by (seed, purpose, step, rank).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load as load_distributed
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from recsys.config import Config
from recsys.errors import ConfigError
from recsys.models.batches import DataPosition

STATE_FILE = "state.json"
KEPT = 2


class Validation(Config):
    """One look at the validation users."""

    step: int
    tokens: int
    ndcg_at_10: float


class TrainingState(Config):
    """All of a run that is not a tensor.

    Attributes:
        made_from: fingerprint of data and settings; only the same run goes on from it.
        step: updates done.
        tokens: interactions trained on, over all ranks.
        position: the next batch.
        validations: so far, oldest first.
    """

    made_from: str
    step: int = 0
    tokens: int = 0
    position: DataPosition = DataPosition()
    validations: tuple[Validation, ...] = ()

    @property
    def best(self) -> Validation | None:
        """The first of the best validations."""
        return max(self.validations, key=lambda each: each.ndcg_at_10, default=None)

    @property
    def n_without_gain(self) -> int:
        """Validations since the best."""
        return len(self.validations) - 1 - self.validations.index(self.best) if self.best else 0


def save_checkpoint(folder: Path, state: TrainingState, weights: dict[str, Tensor], moments: dict[str, Tensor]) -> None:
    """Write one checkpoint, atomically, and delete those that are neither among the last two nor the best.

    Every rank calls it; a kill at any point leaves the earlier checkpoints whole.
    """
    final = _folder_of(folder, state.step)
    unfinished = folder / f"{final.name}.unfinished"
    if dist.get_rank() == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    dist.barrier()
    tensors = {f"weights.{name}": value for name, value in weights.items()}
    tensors |= {f"moments.{name}": value for name, value in moments.items()}
    save_distributed(tensors, storage_writer=HuggingFaceStorageWriter(str(unfinished), save_distributed=True))
    dist.barrier()
    if dist.get_rank() == 0:
        (unfinished / STATE_FILE).write_text(state.model_dump_json(indent=1), encoding="utf-8")
        _flush(unfinished)
        shutil.rmtree(final, ignore_errors=True)
        unfinished.rename(final)
        _flush_folder(folder)
        _prune(folder, state)
    dist.barrier()


def latest_state(folder: Path, made_from: str) -> TrainingState | None:
    """The state of the last complete checkpoint, or None when there is none.

    Raises:
        ConfigError: it is of another run (other data or settings).
    """
    steps = _steps(folder)
    if not steps:
        return None
    state = TrainingState.model_validate_json((_folder_of(folder, steps[-1]) / STATE_FILE).read_bytes())
    if state.made_from != made_from:
        raise ConfigError(f"{folder} holds checkpoints of other data or settings: use another folder, or remove it")
    return state


def load_tensors(folder: Path, step: int, weights: dict[str, Tensor], moments: dict[str, Tensor] | None = None) -> None:
    """Read a checkpoint into the given tensors, in place, at any number of ranks. Every rank calls it."""
    tensors = {f"weights.{name}": value for name, value in weights.items()}
    tensors |= {f"moments.{name}": value for name, value in (moments or {}).items()}
    load_distributed(tensors, storage_reader=HuggingFaceStorageReader(str(_folder_of(folder, step))))


def _folder_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    found = [path.name.removeprefix("step-") for path in folder.glob("step-*")]
    return sorted(int(name) for name in found if name.isdecimal())


def _prune(folder: Path, state: TrainingState) -> None:
    kept = set(_steps(folder)[-KEPT:]) | ({state.best.step} if state.best else set())
    for step in set(_steps(folder)) - kept:
        shutil.rmtree(_folder_of(folder, step))


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
