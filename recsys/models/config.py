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


class TrainingConfig(Config):
    """How the model is fitted. Every limit counts steps or tokens (interactions to predict), never seconds: a run that
    is killed and started again ends with the same weights.

    Attributes:
        seed: of everything random.
        max_tokens: interactions to train on; None = `token_budget`.
        batch_tokens: interactions of a step, over all ranks, padding included.
        learning_rate: of Adam, for all but fused tables.
        fused_learning_rate: of the fused optimizer of the tables.
        final_learning_rate: share of the learning rate that the cosine decay ends with.
        warmup_steps: steps of linear rise at the start.
        weight_decay: of AdamW on weight matrices.
        table_optimizer: "adam" (dense, replicated) or "rowwise_adagrad" (FBGEMM's fused optimizer, table split by
            rows over the ranks); "auto" takes Adam up to `adam_max_items` items.
        adam_max_items: where dense updates of the table begin to cost more than the rest of a step.
        loss: "auto" takes the full softmax up to `full_softmax_max_items` items.
        full_softmax_max_items: see `loss`.
        n_negatives: drawn once a step for all its queries.
        negative_power: negatives are drawn in proportion to `count ** negative_power`, and logQ takes it out again.
        event_type_dropout: share of interactions whose event type is hidden, so that an unknown type means little.
        user_text_dropout: share of profiles hidden in a step.
        n_evaluations: validations, evenly over the budget; each leaves a checkpoint.
        patience: validations without a better NDCG@10 before training stops.
        max_validation_users: a fixed sample of so many users judges the model while it trains.
        checkpoint_every_steps: checkpoints between the validations.
        threads: of torch; None = as torch decides. Bit-equal runs need the same number.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    max_tokens: Count | None = None
    batch_tokens: Count = 4096
    learning_rate: Rate = 2e-3
    fused_learning_rate: Rate = 0.05
    final_learning_rate: Share = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    table_optimizer: Literal["auto", "adam", "rowwise_adagrad"] = "auto"
    adam_max_items: Count = 200_000
    loss: Literal["auto", "full_softmax", "sampled_softmax"] = "auto"
    full_softmax_max_items: Count = FULL_SOFTMAX_MAX_ITEMS
    n_negatives: Count = 1024
    negative_power: Annotated[float, Field(ge=0, le=1)] = 1.0
    event_type_dropout: Share = 0.05
    user_text_dropout: Share = 0.1
    n_evaluations: Count = 10
    patience: Count = 4
    max_validation_users: Count = 2000
    checkpoint_every_steps: Count = 500
    threads: Count | None = None

    def loss_for(self, n_items: int) -> Literal["full_softmax", "sampled_softmax"]:
        """The loss that "auto" means for a catalogue."""
        if self.loss == "auto":
            return "full_softmax" if n_items <= self.full_softmax_max_items else "sampled_softmax"
        return self.loss

    def table_optimizer_for(self, n_items: int) -> Literal["adam", "rowwise_adagrad"]:
        """The optimizer that "auto" means for a catalogue."""
        if self.table_optimizer == "auto":
            return "adam" if n_items <= self.adam_max_items else "rowwise_adagrad"
        return self.table_optimizer
