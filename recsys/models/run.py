"""A training run in a folder: what a job starts, alone or as one rank of several, and reads when it is done.

<folder>/checkpoints/       while it runs
<folder>/model/             the trained model
<folder>/summary.json       written last: the run is done
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray

from recsys.errors import MissingArtifact
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.models.distributed import process_group, training_device
from recsys.models.model import TrainedModel, load_model, save_model
from recsys.models.training import Progress, TrainingData, TrainingSummary, train
from recsys.models.two_tower import TABLE

CHECKPOINTS = "checkpoints"
MODEL = "model"
SUMMARY_FILE = "summary.json"


def train_into(
    folder: Path,
    data: TrainingData,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    log_dir: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train, or go on from the last checkpoint, and leave model and summary in `folder`.

    Every rank calls it with the same arguments; rank 0 writes. Raises as `train` does.
    """
    with process_group(training_device()):
        trained, summary = train(
            data, model, training, checkpoint_dir=folder / CHECKPOINTS, log_dir=log_dir, on_progress=on_progress
        )
        if dist.get_rank() == 0:
            save_model(trained, folder / MODEL)
            unfinished = folder / f"{SUMMARY_FILE}.unfinished"
            unfinished.write_text(summary.model_dump_json(indent=1), encoding="utf-8")
            unfinished.replace(folder / SUMMARY_FILE)
        dist.barrier()


def trained_in(folder: Path) -> tuple[TrainedModel, TrainingSummary]:
    """What `train_into` left. Raises MissingArtifact when the run is not done."""
    if not (folder / SUMMARY_FILE).exists():
        raise MissingArtifact(f"the training in {folder} is not done: run `recsys train` to go on")
    summary = TrainingSummary.model_validate_json((folder / SUMMARY_FILE).read_bytes())
    return load_model(folder / MODEL), summary


def id_vectors(model: TrainedModel) -> NDArray[np.float32]:
    """float32 [N, D], the rows of the id table; those where `model.trained` is False were never learned."""
    weight = model.towers.ids.embeddings[TABLE].weight
    return np.ascontiguousarray(weight.detach().cpu().numpy(), dtype=np.float32)
