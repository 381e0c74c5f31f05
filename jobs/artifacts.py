"""What jobs leave for one another, as values: the dataset, the content vectors, the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.tagged_items import Tagging, with_tags
from recsys.catalog import category_matrix
from recsys.dataset import ItemContent, Modality, Sequences, UserContent
from recsys.errors import MissingArtifact
from recsys.features.blend import Blend
from recsys.interactions import INTERACTIONS_SCHEMA, read_table, to_sequences
from recsys.manifest import EmbeddingSpace, fingerprint
from recsys.storage.artifact_files import latest, read_artifact
from recsys.vocabulary import Vocabulary
from recsys.workspace import Workspace


@dataclass(frozen=True)
class Dataset:
    """What `validate` accepted.

    Attributes:
        key: of the accepted rows.
        content_key: of the accepted items and users alone: vectors outlive new interactions.
        tagging: what counts of the items' tags (`jobs.tags_of`); None where nothing was ever tagged, or nobody asked.
    """

    path: Path
    key: str
    content_key: str
    summary: Mapping[str, Any]
    tagging: Tagging | None = None

    @cached_property
    def items(self) -> pa.Table:
        """`recsys.catalog.ITEMS_SCHEMA`, and `recsys.tags.TAG_COLUMNS` where there is a tagging."""
        return with_tags(pq.read_table(self.path / "items.parquet"), self.tagging)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.items["item_id"].to_pylist())

    @cached_property
    def sequences(self) -> Sequences:
        return to_sequences(self.interactions, self.vocabulary)

    @property
    def interactions(self) -> pa.Table:
        return read_table(self.path / "interactions.parquet", INTERACTIONS_SCHEMA)

    @cached_property
    def users(self) -> pa.Table | None:
        path = self.path / "users.parquet"
        return pq.read_table(path) if path.exists() else None


@dataclass(frozen=True)
class Content:
    """What `embed` made of one dataset: vectors by modality, aligned to its items and its users."""

    path: Path
    key: str
    spaces: Mapping[str, EmbeddingSpace]

    def modality(self, name: str) -> Modality:
        vectors = np.load(self.path / f"{name}.npy").astype(np.float32)
        return Modality(name, self.spaces[name].space_id, vectors, np.load(self.path / f"{name}_present.npy"))

    def item_content(self, dataset: Dataset) -> ItemContent:
        names, categories = category_matrix(dataset.items)
        modalities = tuple(self.modality(name) for name in sorted(self.spaces))
        return ItemContent(len(dataset.vocabulary), modalities, names, categories)

    def user_content(self, dataset: Dataset) -> UserContent | None:
        if dataset.users is None or "text" not in self.spaces:
            return None
        vectors = np.load(self.path / "users.npy").astype(np.float32)
        present = np.load(self.path / "users_present.npy")
        text = Modality("text", self.spaces["text"].space_id, vectors, present)
        return UserContent(tuple(dataset.users["user_id"].to_pylist()), text)


@dataclass(frozen=True)
class Model:
    """What `train` made: the towers as ONNX, the id vectors, and the weights of the ranking formula.

    Attributes:
        item_ids: the `N` items of its training data.
        id_vectors: float32 [N, d], and `id_present` bool [N], False for items that no training interaction had.
        space_ids: modality → embedding space of the content it was trained on.
        n_interactions: that it was trained on.
        settings: the [model] and [training] sections it was trained with.
        reads_profiles: whether there were profiles to train on.
        settings: the [model] and [training] sections that it was trained with.
    """

    path: Path
    key: str
    item_ids: tuple[str, ...]
    id_vectors: NDArray[np.float32]
    id_present: NDArray[np.bool_]
    event_type_names: tuple[str, ...]
    category_names: tuple[str, ...]
    space_ids: Mapping[str, str]
    max_history: int
    blend: Blend
    vocabulary_checksum: str
    n_interactions: int
    reads_profiles: bool
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]


CONTENT_FILES = ("items.parquet", "users.parquet")
DATASET_FILES = (*CONTENT_FILES, "interactions.parquet")


def load_dataset(workspace: Workspace) -> Dataset:
    """The dataset that `recsys validate` made last. Raises MissingArtifact.

    Its keys are those of the accepted rows: validating again what did not change makes nobody train again.
    """
    path, manifest = read_artifact(workspace.root, "dataset")

    def key_of(names: tuple[str, ...]) -> str:
        return fingerprint({name: manifest.files[name].sha256 for name in names if name in manifest.files})

    return Dataset(path, key_of(DATASET_FILES), key_of(CONTENT_FILES), manifest.summary)


def load_content(workspace: Workspace, dataset: Dataset) -> Content:
    """The vectors that `recsys embed` made last.

    Raises:
        MissingArtifact: there are none, or they are of other items or users than `dataset`'s: their rows would not
            be its rows.
    """
    key = latest(workspace.root, "content")
    path, manifest = read_artifact(workspace.root, "content", key)
    if manifest.made_from.get("content_of") != dataset.content_key:
        raise MissingArtifact("items or users have changed since they were embedded: run `recsys embed` first")
    spaces = {name: EmbeddingSpace(**space) for name, space in manifest.made_from["spaces"].items()}
    return Content(path, key, spaces)


def load_model(workspace: Workspace) -> Model:
    """The model that `recsys train` made last. Raises MissingArtifact."""
    path, manifest = read_artifact(workspace.root, "model")
    described = msgspec.json.decode((path / "model.json").read_bytes())
    return Model(
        path=path,
        key=manifest.key,
        item_ids=tuple(pq.read_table(path / "item_ids.parquet")["item_id"].to_pylist()),
        id_vectors=np.load(path / "id_vectors.npy"),
        id_present=np.load(path / "id_present.npy"),
        event_type_names=tuple(described["event_type_names"]),
        category_names=tuple(described["category_names"]),
        space_ids=described["space_ids"],
        max_history=described["max_history"],
        blend=Blend.model_validate(described["blend"]),
        vocabulary_checksum=described["vocabulary_checksum"],
        n_interactions=described["n_interactions"],
        reads_profiles=described["reads_profiles"],
        settings={name: manifest.made_from[name] for name in ("model", "training")},
        summary=manifest.summary,
    )
