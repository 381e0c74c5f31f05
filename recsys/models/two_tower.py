"""The two-tower model: an item tower over a TorchRec id table and content, and a query tower over item vectors.

Letters: N items, U distinct items of a batch, B histories, T interactions, Q queries, M candidates, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor

from recsys.config import Config
from recsys.models.config import ModelConfig
from recsys.models.item_tower import INIT_STD, ItemTower
from recsys.models.losses import full_softmax_loss, sampled_softmax_loss
from recsys.models.query_tower import QueryTower

TABLE = "item"


class ModalitySpec(Config):
    """A kind of content that the item tower reads: its embedding space and the width of its vectors."""

    name: str
    space_id: str
    dim: int


class TwoTowerSpec(Config):
    """Everything that decides the shape of a model's weights, and what their rows mean.

    Attributes:
        vocabulary_checksum: of the item ids whose rows the id table has.
        user_text: the space of profile text vectors; None = the query tower reads no profile.
    """

    model: ModelConfig
    n_items: int
    vocabulary_checksum: str
    modalities: tuple[ModalitySpec, ...]
    category_names: tuple[str, ...]
    event_type_names: tuple[str, ...]
    user_text: ModalitySpec | None = None


@dataclass(frozen=True)
class ItemInputs:
    """What the item tower reads of some items.

    Attributes:
        rows: int64 [U].
        id_mask: bool [U].
        modalities: for each modality float32 [U, P] and bool [U].
        categories: float32 [U, C] or None.
    """

    rows: Tensor
    id_mask: Tensor
    modalities: list[tuple[Tensor, Tensor]]
    categories: Tensor | None

    def to(self, device: torch.device) -> ItemInputs:
        return ItemInputs(
            self.rows.to(device),
            self.id_mask.to(device),
            [(vectors.to(device), mask.to(device)) for vectors, mask in self.modalities],
            None if self.categories is None else self.categories.to(device),
        )


@dataclass(frozen=True)
class QueryInputs:
    """What the query tower reads, with items as places in `ItemInputs.rows`.

    Attributes:
        history: int64 [B, T].
        event_types: int64 [B, T].
        lengths: int64 [B].
        user_text, user_text_mask: float32 [B, P] and bool [B], or None.
    """

    history: Tensor
    event_types: Tensor
    lengths: Tensor
    user_text: Tensor | None = None
    user_text_mask: Tensor | None = None

    def to(self, device: torch.device) -> QueryInputs:
        return QueryInputs(*(_moved(getattr(self, field.name), device) for field in fields(self)))


@dataclass(frozen=True)
class Batch:
    """One training step's share of one rank.

    Attributes:
        query_at: int64 [Q], state `b * (T + 1) + t` of each query.
        targets: int64 [Q], places in `items.rows`.
        weights: float32 [Q], of each query's loss.
        candidates: int64 [M], places in `items.rows`: the negatives.
        log_expected_count: float32 [M] of a sampled softmax; None = the full softmax over all of `items`.
    """

    items: ItemInputs
    queries: QueryInputs
    query_at: Tensor
    targets: Tensor
    weights: Tensor
    candidates: Tensor
    log_expected_count: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, with those of its parts that move by themselves."""
        return Batch(*(_moved(getattr(self, field.name), device) for field in fields(self)))


def _moved(part: Any, device: torch.device) -> Any:
    return None if part is None else part.to(device)


class TwoTower(nn.Module):
    """Both towers and the id table. `forward` is the training loss, so that a data-parallel wrapper sees one call."""

    def __init__(self, spec: TwoTowerSpec) -> None:
        super().__init__()
        dim = spec.model.dim
        table = EmbeddingConfig(name=TABLE, embedding_dim=dim, num_embeddings=spec.n_items, feature_names=[TABLE])
        self.ids = EmbeddingCollection(tables=[table], device=torch.device("cpu"))
        nn.init.normal_(self.ids.embeddings[TABLE].weight, std=INIT_STD)
        modality_dims = {modality.name: modality.dim for modality in spec.modalities}
        self.item = ItemTower(dim, modality_dims, len(spec.category_names))
        user_text_dim = spec.user_text.dim if spec.user_text else 0
        self.query = QueryTower(spec.model, len(spec.event_type_names), user_text_dim)

    def item_vectors(self, items: ItemInputs) -> Tensor:
        """float32 [U, D]."""
        lengths = torch.ones_like(items.rows)
        looked_up = self.ids(KeyedJaggedTensor(keys=[TABLE], values=items.rows, lengths=lengths))
        id_vectors: Tensor = looked_up[TABLE].values()
        vectors: Tensor = self.item(id_vectors, items.id_mask, items.modalities, items.categories)
        return vectors

    def forward(self, batch: Batch) -> Tensor:
        """float32 [], the weighted sum of the softmax loss of the batch's queries."""
        items = self.item_vectors(batch.items)
        inputs = batch.queries
        states = self.query.states(
            items[inputs.history], inputs.event_types, inputs.lengths, inputs.user_text, inputs.user_text_mask
        )
        queries = states.flatten(0, 1)[batch.query_at]
        if batch.log_expected_count is None:
            return full_softmax_loss(queries, items, batch.targets, batch.weights)
        return sampled_softmax_loss(
            queries,
            items[batch.targets],
            batch.items.rows[batch.targets],
            items[batch.candidates],
            batch.items.rows[batch.candidates],
            batch.log_expected_count,
            batch.weights,
        )
