"""Configuration of the two-tower model and of its training; loads no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys.config import Config

Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]

FULL_SOFTMAX_MAX_ITEMS = 2_000


class ModelConfig(Config):
    """The shape of the two towers.

    Attributes:
        dim: width `D` of item and query vectors.
        n_blocks: transformer blocks of the query tower.
        n_heads: attention heads; divides `dim`.
        max_history: how many of the latest interactions the query tower reads.
        dropout: in the query tower.
        id_dropout: share of items whose id vector is hidden in a training step, so that content learns to carry
            items that have none.
        temperature: similarity of a query and an identical item at the start of training (learned from there).
        ordered: False for data without order: no positions, and every interaction sees all others.
    """

    dim: Count = 64
    n_blocks: Count = 2
    n_heads: Count = 2
    max_history: Count = 200
    dropout: Share = 0.3
    id_dropout: Share = 0.1
    temperature: Rate = 12.0
    ordered: bool = True

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> ModelConfig:
        if self.dim % self.n_heads:
            raise ValueError(f"dim {self.dim} must be a multiple of n_heads {self.n_heads}")
        return self
