"""A workspace folder: where everything of one recommender lies, and `recsys.toml`, all of its configuration.

recsys.toml     configuration
data/           items.*, interactions.*, optional users.*, and events/ (exported from the service)
artifacts/      what jobs make: dataset, embeddings, content, model, evaluation, objects (files of releases)
releases/       one folder a release, and `current`, the pointer that the service follows
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recsys.catalog import DataConfig
from recsys.config import Config, load_config
from recsys.evaluation import EvaluationConfig
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.recommender import RecommenderConfig
from recsys.serving_config import ServingConfig

CONFIG_NAME = "recsys.toml"


class EncodersConfig(Config):
    """The `[encoders]` section: which models see and read the items.

    Attributes:
        image: `bundled`, `open_clip:<arch>/<pretrained or path>`, `transformers:<name or path>`, `fake` or `none`.
        text: the same; with `open_clip:` for both, pictures and words share one space.
        device: `auto` takes a GPU when there is one.
        threads: CPU threads of an embedding job; 0 = all cores.
        shard_size: items a shard; a killed job loses at most one.
    """

    image: str = "bundled"
    text: str = "bundled"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    shard_size: int = 1024


class GateConfig(Config):
    """The `[gate]` section: what a release must reach before it may be published.

    Attributes:
        min_index_recall: recall@100 of the index against exact search.
        min_lift_over_popularity: served NDCG@10 over popularity's; 0 switches it off.
        max_loss: how much worse than the current release's served NDCG@10 it may be, as a share.
        min_users: with fewer test users than this the two NDCG rules are reported and not enforced.
        max_users: test users that are served for the figure, the first of a fixed shuffle.
        max_shrink: how much smaller than the current release's its catalogue may be, as a share: a nightly export
            that broke off half way must not take the other half away.
    """

    min_index_recall: float = 0.95
    min_lift_over_popularity: float = 1.0
    max_loss: float = 0.1
    min_users: int = 100
    max_users: int = 10_000
    max_shrink: float = 0.5


class RefreshConfig(Config):
    """The `[refresh]` section: the nightly run.

    Attributes:
        retrain_share: retrain when interactions have grown by this share since the model was trained.
    """

    retrain_share: float = 0.05


class WorkspaceConfig(Config):
    """All of `recsys.toml`."""

    data: DataConfig = DataConfig()
    encoders: EncodersConfig = EncodersConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recommender: RecommenderConfig = RecommenderConfig()
    gate: GateConfig = GateConfig()
    refresh: RefreshConfig = RefreshConfig()
    serving: ServingConfig = ServingConfig()


@dataclass(frozen=True)
class Workspace:
    """A workspace's folder and configuration."""

    root: Path
    config: WorkspaceConfig

    @staticmethod
    def open(root: Path) -> Workspace:
        """Raises ConfigError when there is no valid `recsys.toml` in the folder."""
        return Workspace(root.resolve(), load_config(root / CONFIG_NAME, WorkspaceConfig))

    @property
    def data_dir(self) -> Path:
        return self.root / self.config.data.dir

    @property
    def events_dir(self) -> Path:
        return self.data_dir / "events"
