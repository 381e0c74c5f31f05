"""A trained model: its weights, what their rows mean, and its folder on disk.

model.safetensors       weights in full, and `trained` bool [N]
model.json              `TwoTowerSpec`: shapes, names, embedding spaces, vocabulary checksum
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys.dataset import ItemContent, Mask, Modality, Rows, Sequences, UserContent
from recsys.errors import CorruptArtifact, MissingArtifact, SpaceMismatch
from recsys.models.batches import Profiles
from recsys.models.config import ModelConfig
from recsys.models.project import all_item_vectors, query_vectors
from recsys.models.two_tower import ModalitySpec, TwoTower, TwoTowerSpec

WEIGHTS_FILE = "model.safetensors"
SPEC_FILE = "model.json"
_TRAINED = "trained"


@dataclass(frozen=True)
class TrainedModel:
    """Towers on the CPU, in one piece.

    Attributes:
        trained: bool [N], False for items that training never saw: content alone carries them.
    """

    spec: TwoTowerSpec
    towers: TwoTower
    trained: Mask

    @staticmethod
    def of(spec: TwoTowerSpec, weights: Mapping[str, Tensor], trained: Mask) -> TrainedModel:
        """Towers with the given weights. Raises CorruptArtifact when they do not fit."""
        with torch.random.fork_rng(devices=[]):
            towers = TwoTower(spec)
        try:
            towers.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise CorruptArtifact(f"the weights do not fit the model; train it again: {error}") from None
        return TrainedModel(spec, towers.eval(), trained)

    def item_vectors(self, content: ItemContent) -> NDArray[np.float32]:
        """float32 [N, D], of length 1. Raises SpaceMismatch for content of other encoders than it was trained on."""
        require_same_content(self.spec, content)
        return all_item_vectors(self.towers, content, self.trained)

    def query_vectors(
        self,
        item_vectors: NDArray[np.float32],
        sequences: Sequences,
        users: Rows,
        user_content: UserContent | None = None,
    ) -> NDArray[np.float32]:
        """float32 [B, D], the queries of users (rows int64 [B]) after all their interactions in `sequences`.

        Their product with item vectors is a logit, the larger the better.
        """
        profiles = None
        if self.spec.user_text is not None:
            profiles = Profiles.of(user_content or _no_profiles(self.spec.user_text), sequences.user_ids)
        return query_vectors(self.towers, item_vectors, sequences, users, profiles, self.spec.model.max_history)


def spec_of(
    sequences: Sequences,
    content: ItemContent,
    user_content: UserContent | None,
    model: ModelConfig,
    vocabulary_checksum: str,
) -> TwoTowerSpec:
    """The spec of a model to be trained on this data; runs without order where the data has none."""
    return TwoTowerSpec(
        model=model if sequences.ordered else model.model_copy(update={"ordered": False}),
        n_items=content.n_items,
        vocabulary_checksum=vocabulary_checksum,
        modalities=_modality_specs(content),
        category_names=content.category_names,
        event_type_names=sequences.event_type_names,
        user_text=None
        if user_content is None
        else ModalitySpec(
            name="user_text", space_id=user_content.text.space_id, dim=user_content.text.vectors.shape[1]
        ),
    )


def require_same_content(spec: TwoTowerSpec, content: ItemContent) -> None:
    """Raises SpaceMismatch unless `content` is of the kinds and encoders that the model reads."""
    if _modality_specs(content) != spec.modalities or content.category_names != spec.category_names:
        raise SpaceMismatch("the model was trained on other encoders or categories than this content: train it again")


def save_model(model: TrainedModel, folder: Path) -> None:
    """Write the two files; the same model gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().contiguous() for name, value in model.towers.state_dict().items()}
    save_file({**tensors, _TRAINED: torch.from_numpy(model.trained.copy())}, folder / WEIGHTS_FILE)
    (folder / SPEC_FILE).write_text(model.spec.model_dump_json(indent=1), encoding="utf-8")


def load_model(folder: Path) -> TrainedModel:
    """Raises MissingArtifact when there is none, CorruptArtifact when its files cannot be read or do not fit."""
    if not (folder / SPEC_FILE).exists() or not (folder / WEIGHTS_FILE).exists():
        raise MissingArtifact(f"{folder} holds no trained model: run `recsys train`")
    try:
        spec = TwoTowerSpec.model_validate_json((folder / SPEC_FILE).read_bytes())
        tensors = load_file(folder / WEIGHTS_FILE)
    except (ValidationError, SafetensorError) as error:
        raise CorruptArtifact(f"{folder} cannot be read as a model; train it again: {error}") from None
    trained = tensors.pop(_TRAINED, torch.empty(0, dtype=torch.bool)).numpy()
    return TrainedModel.of(spec, tensors, trained)


def _modality_specs(content: ItemContent) -> tuple[ModalitySpec, ...]:
    return tuple(
        ModalitySpec(name=each.name, space_id=each.space_id, dim=each.vectors.shape[1]) for each in content.modalities
    )


def _no_profiles(user_text: ModalitySpec) -> UserContent:
    text = Modality("text", user_text.space_id, np.zeros((1, user_text.dim), np.float32), np.zeros(1, np.bool_))
    return UserContent((), text)
