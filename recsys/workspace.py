"""A workspace folder: where everything of one recommender lies, and `recsys.toml`, all of its configuration.

recsys.toml     configuration
data/           items.*, interactions.*, optional users.*, and events/ (exported from the service)
artifacts/      what jobs make: dataset, embeddings, content, model, evaluation, objects (files of releases)
releases/       one folder a release, and `current`, the pointer that the service follows; [releases] may say elsewhere
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from recsys.catalog import DataConfig
from recsys.config import Config, load_config
from recsys.errors import ConfigError
from recsys.evaluation import EvaluationConfig
from recsys.experiments import Name
from recsys.index.config import IndexConfig
from recsys.item_template import DEFAULT_TEMPLATE, parse_template
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.recommender import RecommenderConfig
from recsys.releases_config import ReleasesConfig
from recsys.serving_config import ServingConfig
from recsys.sources_config import SourcesConfig
from recsys.surfaces import SurfaceConfig, SurfaceExperiment, SurfaceName, Surfaces
from recsys.tagging_config import TaggingConfig

CONFIG_NAME = "recsys.toml"


class EncodersConfig(Config):
    """The `[encoders]` section: which models see and read the items.

    Attributes:
        image: `bundled` (or `bundled@<side in pixels>`), `open_clip:<arch>/<pretrained or path>`,
            `transformers:<name or path>`, `onnx:<folder that a fine-tuned encoder was written to>`, `fake` or `none`.
        text: the same, without a side; with `open_clip:` for both, pictures and words share one space.
        audio: `logmel` (needs no weights), `transformers:<AST or CLAP name or path>`, `fake` or `none`; where no item
            has a sound, nothing is loaded.
        text_template: the words of an item, from {title}, {description}, {categories}, {attributes} and
            {attributes.NAME}; a missing field takes along what stands before it.
        device: `auto` takes a GPU when there is one.
        precision: `auto` computes in bf16 where the device has it and it was measured faster and exact enough.
        compile: let torch compile the encoders on a GPU: slow to start, faster for millions.
        threads: CPU threads of an embedding job; 0 = all cores.
        decode_workers: isolated processes that decode pictures and sound; 0 = as many as threads, -1 = none: decode
            in the job itself, which is for files that you made.
        shard_size: contents a shard; a killed job loses at most one. A GPU wants 16384.
    """

    image: str = "bundled"
    text: str = "bundled"
    audio: str = "logmel"
    text_template: str = DEFAULT_TEMPLATE
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    threads: int = 0
    decode_workers: int = 0
    shard_size: int = 1024

    @field_validator("audio")
    @classmethod
    def _can_be_released(cls, audio: str) -> str:
        if audio.startswith("tflite:"):
            raise ValueError(
                f"{audio!r} hears for tagging only, because a release carries encoders as ONNX: name it in "
                "[tagging.audio] encoder"
            )
        return audio

    @field_validator("text_template")
    @classmethod
    def _has_known_fields(cls, template: str) -> str:
        try:
            parse_template(template)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return template


class GateConfig(Config):
    """The `[gate]` section: what a release must reach before it may be published.

    Attributes:
        min_index_recall: recall@100 of the index against exact search.
        min_filtered_recall: the same under filters that let 90 % to .01 % of the items pass; an answer that is
            shorter than what there was, or holds what the filter forbids, is never good enough.
        min_lift_over_popularity: served NDCG@10 over popularity's; 0 switches it off.
        max_loss: how much worse than the current release's served NDCG@10 it may be, as a share.
        min_users: with fewer test users than this the two NDCG rules are reported and not enforced.
        max_users: test users that are served for the figure, the first of a fixed shuffle.
        max_shrink: how much smaller than the current release's its catalogue may be, as a share: a nightly export
            that broke off half way must not take the other half away.
    """

    min_index_recall: float = 0.95
    min_filtered_recall: float = 0.98
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
    """All of `recsys.toml`.

    Attributes:
        surfaces: the places of a shop that show slates, by the name that a request gives as `surface`.
        experiments: comparisons of settings on the surfaces, each unit (a user, a session) with one variant of each.
            Two that may meet in a request change different settings, or are in one layer.
    """

    data: DataConfig = DataConfig()
    sources: SourcesConfig = SourcesConfig()
    encoders: EncodersConfig = EncodersConfig()
    tagging: TaggingConfig = TaggingConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    recommender: RecommenderConfig = RecommenderConfig()
    surfaces: dict[SurfaceName, SurfaceConfig] = Field(default_factory=dict)
    experiments: dict[Name, SurfaceExperiment] = Field(default_factory=dict)
    gate: GateConfig = GateConfig()
    refresh: RefreshConfig = RefreshConfig()
    releases: ReleasesConfig = ReleasesConfig()
    serving: ServingConfig = ServingConfig()

    @model_validator(mode="after")
    def _has_surfaces_that_resolve(self) -> WorkspaceConfig:
        self.resolved_surfaces()
        return self

    def resolved_surfaces(self, recommender: RecommenderConfig | None = None) -> Surfaces:
        """The surfaces with the experiments on them, ready; `recommender` in place of `[recommender]`."""
        return Surfaces.of(recommender or self.recommender, self.surfaces, self.experiments)


@dataclass(frozen=True)
class Workspace:
    """A workspace's folder and configuration."""

    root: Path
    config: WorkspaceConfig

    @staticmethod
    def open(root: Path) -> Workspace:
        """Raises ConfigError when there is no valid `recsys.toml` in the folder."""
        return Workspace(root.resolve(), load_config(root / CONFIG_NAME, WorkspaceConfig))

    def with_releases_at(self, url: str | None) -> Workspace:
        """The same with its releases at that URL instead of `[releases] url`; None changes nothing.

        Raises ConfigError when releases cannot lie there.
        """
        if not url:
            return self
        try:
            releases = ReleasesConfig.model_validate({**self.config.releases.model_dump(), "url": url})
        except ValidationError as error:
            raise ConfigError(f"releases at {url!r}: {error.errors(include_input=False)[0]['msg']}") from None
        return replace(self, config=self.config.model_copy(update={"releases": releases}))

    @property
    def data_dir(self) -> Path:
        return self.root / self.config.data.dir

    @property
    def events_dir(self) -> Path:
        return self.data_dir / "events"
