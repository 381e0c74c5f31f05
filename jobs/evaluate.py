"""`recsys evaluate`: the whole catalogue ranked for held-out interactions, the model beside what it must beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from jobs.artifacts import Content, Dataset, Model, load_content, load_dataset, load_model
from jobs.progress import console
from jobs.tags_of import tagged
from recsys.baselines import ItemKnn, Popularity
from recsys.dataset import Split
from recsys.errors import ConfigError
from recsys.evaluation import Evaluation, evaluate, make_split
from recsys.features.transitions import fit_transitions
from recsys.manifest import fingerprint
from recsys.models.model import load_model as load_trained_model
from recsys.ports import RankFeatures
from recsys.storage.artifact_files import write_artifact
from recsys.workspace import Workspace

DEFAULT = "blend"
"""What the product serves: the two-tower model's similarity with transitions and popularity."""

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Evaluated:
    """Every model's ranks on the test split."""

    split: Split
    models: dict[str, Evaluation]

    def as_json(self) -> dict[str, Any]:
        return {"default": DEFAULT, "models": {name: each.report.as_json() for name, each in self.models.items()}}


def evaluate_job(workspace: Workspace) -> tuple[dict[str, Any], int]:
    """Evaluate the model that was trained last, on the dataset it was trained on."""
    dataset = tagged(workspace, load_dataset(workspace))
    evaluated = evaluate_models(workspace, dataset, load_content(workspace, dataset), load_model(workspace))
    return evaluated.as_json(), 0


def evaluate_models(workspace: Workspace, dataset: Dataset, content: Content, model: Model) -> Evaluated:
    """Popularity, item-kNN, transitions, the bare two-tower model, and the blend that is served.

    Raises:
        ConfigError: the data has changed since the model was trained.
    """
    if model.vocabulary_checksum != dataset.vocabulary.checksum:
        raise ConfigError("the catalogue has changed since the model was trained: run `recsys train`, then evaluate")
    plan = workspace.config.evaluation
    split = make_split(dataset.sequences, plan)
    n_items = len(dataset.vocabulary)
    models: dict[str, Evaluation] = {}
    for name, score in scorers(dataset, content, model, split).items():
        with console.status(f"evaluate {name}"):
            models[name] = evaluate(score, split, n_items, plan)
    _show(models)
    _keep(workspace, dataset, model, Evaluated(split, models))
    return Evaluated(split, models)


def scorers(dataset: Dataset, content: Content, model: Model, split: Split) -> dict[str, Callable[[Rows], Scores]]:
    """name → user rows int64 [B] to scores float32 [B, N], the larger the better."""
    n_items = len(dataset.vocabulary)
    popularity, knn = Popularity.fit(split.train, n_items), ItemKnn.fit(split.train, n_items)
    neighbours = fit_transitions(split.history, n_items)
    trained = load_trained_model(model.path / "weights")
    item_vectors = trained.item_vectors(content.item_content(dataset))
    profiles = content.user_content(dataset)
    log_popularity = np.log1p(split.history.item_counts(n_items)).astype(np.float32)

    def transitions(users: Rows) -> Scores:
        histories = (split.history.item_rows[split.history.of(int(user))] for user in users)
        return np.stack([neighbours.score_all(history, n_items) for history in histories])

    def two_tower(users: Rows) -> Scores:
        return trained.query_vectors(item_vectors, split.history, users, profiles) @ item_vectors.T

    def blend(users: Rows) -> Scores:
        return model.blend.value(RankFeatures(two_tower(users), transitions(users), log_popularity[None, :]))

    return {
        "popularity": lambda users: popularity.scores(split.history, users),
        "item_knn": lambda users: knn.scores(split.history, users),
        "transitions": transitions,
        "two_tower": two_tower,
        DEFAULT: blend,
    }


def _show(models: dict[str, Evaluation]) -> None:
    table = Table()
    for name in ("model", "NDCG@10", "95 %", "Recall@20", "MRR@10", "coverage@10", "cold NDCG@10"):
        table.add_column(name, no_wrap=True)
    for name, evaluation in models.items():
        overall, cold = evaluation.report.overall.measures, evaluation.report.cold.measures
        ndcg = overall.get("ndcg@10")
        if ndcg is None:
            continue
        label = f"[bold]{name}[/]" if name == DEFAULT else name
        cells = [
            f"{overall[each].value:.4f}" if each in overall else "" for each in ("recall@20", "mrr@10", "coverage@10")
        ]
        cold_ndcg = f"{cold['ndcg@10'].value:.4f}" if "ndcg@10" in cold else "-"
        table.add_row(label, f"{ndcg.value:.4f}", f"{ndcg.low:.4f}-{ndcg.high:.4f}", *cells, cold_ndcg)
    console.print(table)


def _keep(workspace: Workspace, dataset: Dataset, model: Model, evaluated: Evaluated) -> None:
    plan = workspace.config.evaluation.model_dump(mode="json")
    made_from = {"dataset": dataset.key, "model": model.key, "evaluation": plan}
    write_artifact(workspace.root, "evaluation", fingerprint(made_from), made_from, lambda _folder: evaluated.as_json())
