"""`recsys train`: the two-tower model on the validated behaviour and the embedded content.

Checkpoints lie under `artifacts/training/<key>/` until the model is done: killed anywhere, the same command goes on
from the last one and ends with the same weights.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.artifacts import Content, Dataset, Model, load_content, load_dataset, load_model
from jobs.progress import OnProgress, console, progress_bar
from jobs.tags_of import tagged
from recsys.dataset import Split, leave_last_out
from recsys.errors import InputError, RecsysError
from recsys.evaluation import EvaluationConfig, make_split
from recsys.features.blend import Blend, BlendBatch, fit_blend
from recsys.features.transitions import fit_transitions
from recsys.manifest import canonical_json, fingerprint
from recsys.models.export import export_towers
from recsys.models.model import TrainedModel, save_model
from recsys.models.run import id_vectors, train_into, trained_in
from recsys.models.training import Progress, TrainingData
from recsys.ports import RankFeatures
from recsys.storage.artifact_files import write_artifact
from recsys.storage.atomic import locked_folder
from recsys.workspace import Workspace

MAX_BLEND_USERS = 5_000
BLEND_CELLS = 4_000_000


def train_job(workspace: Workspace, *, ranks: int = 1) -> tuple[dict[str, Any], int]:
    """Train on what was validated and embedded last."""
    dataset = tagged(workspace, load_dataset(workspace))
    model = train_on(workspace, dataset, load_content(workspace, dataset), ranks=ranks)
    return {"model": model.key, **model.summary}, 0


def train_on(workspace: Workspace, dataset: Dataset, content: Content, *, ranks: int = 1) -> Model:
    """The model of this data and these settings; a finished one is not trained again.

    Raises:
        InputError: there are no interactions to learn from.
    """
    if not validation_split(dataset, workspace.config.evaluation).train.n_events:
        raise InputError("there are no interactions to learn from: put interactions.* into data/ and validate")
    made_from = {
        "dataset": dataset.key,
        "content": content.key,
        "model": workspace.config.model.model_dump(mode="json"),
        "training": workspace.config.training.model_dump(mode="json"),
        "split": workspace.config.evaluation.model_dump(include={"split", "temporal_quantile"}),
        "ranks": ranks,
        **({"tags": dataset.tagging.key} if dataset.tagging else {}),
    }
    key = fingerprint(made_from)
    working = workspace.root / "artifacts" / "training" / key

    def fill(folder: Path) -> dict[str, Any]:
        if ranks == 1:
            fit_towers(workspace, dataset, content, working)
        else:
            _under_torchrun(workspace, working, ranks)
        return _finish(workspace, dataset, content, working, folder)

    write_artifact(workspace.root, "model", key, made_from, fill)
    shutil.rmtree(working, ignore_errors=True)
    model = load_model(workspace)
    _show(model)
    return model


def validation_split(dataset: Dataset, config: EvaluationConfig) -> Split:
    """What the towers are fitted on, and what judges them meanwhile; nothing of the test part is in it."""
    if config.split == "leave_last_out":
        return leave_last_out(dataset.sequences, part="validation")
    return leave_last_out(make_split(dataset.sequences, config).train, part="test")


def fit_towers(workspace: Workspace, dataset: Dataset, content: Content, working: Path) -> None:
    """Train, or go on from the last checkpoint in `working`; leaves the model and its summary there.

    Every rank runs this; rank 0 writes.
    """
    split = validation_split(dataset, workspace.config.evaluation)
    data = TrainingData(
        sequences=split.train,
        validation=split,
        content=content.item_content(dataset),
        user_content=content.user_content(dataset),
        vocabulary_checksum=dataset.vocabulary.checksum,
    )
    with progress_bar("train two-tower", "interactions") as bar:

        def on_progress(progress: Progress) -> None:
            bar(min(progress.tokens, progress.max_tokens), progress.max_tokens)

        config, log_dir = workspace.config, workspace.root / "runs" / working.name
        train_into(working, data, config.model, config.training, log_dir=log_dir, on_progress=on_progress)


def _under_torchrun(workspace: Workspace, working: Path, ranks: int) -> None:
    """`ranks` processes on this machine; each runs `fit_towers`.

    The ranks of a run that was killed live on and write to the same folder: they are waited for.
    """
    working.mkdir(parents=True, exist_ok=True)
    with console.status("waiting for the ranks of an earlier run"), locked_folder(working):
        pass
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
    done = subprocess.run([*launcher, "-m", "jobs.train_rank", str(workspace.root), str(working)], check=False)
    if done.returncode:
        raise RecsysError(f"training with {ranks} ranks ended with code {done.returncode}; the same command resumes")


def _finish(workspace: Workspace, dataset: Dataset, content: Content, working: Path, folder: Path) -> dict[str, Any]:
    """Export the towers, and fit the ranking formula on validation."""
    trained, summary = trained_in(working)
    save_model(trained, folder / "weights")
    export_towers(trained, folder)
    ids = pa.table({"item_id": pa.array(dataset.vocabulary.item_ids, pa.string())})
    pq.write_table(ids, folder / "item_ids.parquet", compression="zstd")
    np.save(folder / "id_vectors.npy", id_vectors(trained))
    np.save(folder / "id_present.npy", trained.trained)
    blend, validated = _blend(workspace, dataset, content, trained)
    description = {
        "event_type_names": trained.spec.event_type_names,
        "category_names": trained.spec.category_names,
        "space_ids": {each.name: each.space_id for each in trained.spec.modalities},
        "max_history": trained.spec.model.max_history,
        "blend": blend.model_dump(mode="json"),
        "vocabulary_checksum": dataset.vocabulary.checksum,
        "n_interactions": dataset.sequences.n_events,
        "reads_profiles": trained.spec.user_text is not None,
    }
    (folder / "model.json").write_text(canonical_json(description), encoding="utf-8")
    return {**summary.model_dump(mode="json"), "blend_ndcg_at_10": round(validated, 6)}


def _blend(workspace: Workspace, dataset: Dataset, content: Content, trained: TrainedModel) -> tuple[Blend, float]:
    """The ranking formula fitted on validation users, and its NDCG@10 there."""
    split = validation_split(dataset, workspace.config.evaluation)
    split = split.sampled(MAX_BLEND_USERS, seed=workspace.config.training.seed)
    if not len(split.target_users):
        return Blend(), 0.0
    with progress_bar("fit the ranking formula", "users") as bar:
        fitted = fit_blend(_validation_features(dataset, content, trained, split, bar))
    return fitted.blend, fitted.ndcg_at_10


def _validation_features(
    dataset: Dataset, content: Content, trained: TrainedModel, split: Split, on_progress: OnProgress
) -> Iterator[BlendBatch]:
    """The formula's features over the whole catalogue, in batches of bounded size."""
    n_items, n_users, history = len(dataset.vocabulary), len(split.target_users), split.history
    item_vectors = trained.item_vectors(content.item_content(dataset))
    profiles = content.user_content(dataset)
    neighbours = fit_transitions(split.train, n_items)
    log_popularity = np.log1p(split.train.item_counts(n_items)).astype(np.float32)
    step = max(1, BLEND_CELLS // max(n_items, 1))
    for start in range(0, n_users, step):
        users = split.target_users[start : start + step]
        taken = [history.item_rows[history.of(int(user))] for user in users]
        features = RankFeatures(
            trained.query_vectors(item_vectors, history, users, profiles) @ item_vectors.T,
            np.stack([neighbours.score_all(rows, n_items) for rows in taken]),
            log_popularity,
        )
        places = np.repeat(np.arange(len(users)), [len(rows) for rows in taken])
        yield BlendBatch(features, split.target_items[start : start + step], (places, np.concatenate(taken)))
        on_progress(start + len(users), n_users)


def _show(model: Model) -> None:
    figures, blend = model.summary, model.blend
    best = figures["best_ndcg_at_10"]
    console.print(
        f"  {figures['steps']:,} steps over {figures['tokens']:,} interactions, {figures['loss'].replace('_', ' ')}, "
        f"table by {figures['table_optimizer']}; validation NDCG@10 {best or 0:.4f}, "
        f"with transitions x {blend.transition_weight} and popularity x {blend.popularity_weight}: "
        f"{figures['blend_ndcg_at_10']:.4f}"
    )
