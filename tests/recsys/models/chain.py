"""A world with a known answer: item i is always followed by item i + 1, round in a circle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys.dataset import ItemContent, Modality, Sequences, UserContent, leave_last_out
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.models.training import TrainingData

N_ITEMS, N_USERS, LENGTH = 24, 48, 10

MODEL = ModelConfig(dim=16, n_blocks=1, n_heads=2, max_history=8, dropout=0.1)
TRAINING = TrainingConfig(
    seed=3,
    max_tokens=12_000,
    batch_tokens=200,
    learning_rate=1e-2,
    warmup_steps=5,
    n_evaluations=4,
    patience=4,
    checkpoint_every_steps=7,
    n_negatives=16,
    threads=1,
)


def chain_sequences(*, ordered: bool = True) -> Sequences:
    """User u starts at item u and goes on to the next, `LENGTH` times; event types alternate."""
    rows = (np.arange(N_USERS)[:, None] + np.arange(LENGTH)[None, :]) % N_ITEMS
    return Sequences(
        user_ids=tuple(f"user {row}" for row in range(N_USERS)),
        offsets=np.arange(0, N_USERS * LENGTH + 1, LENGTH, dtype=np.int64),
        item_rows=rows.ravel().astype(np.int64),
        event_types=np.tile([1, 2], N_USERS * LENGTH // 2).astype(np.int64),
        occurred_at_ms=np.zeros(N_USERS * LENGTH, np.int64),
        event_type_names=("unknown", "view", "like"),
        ordered=ordered,
    )


def unit_vectors(n: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def chain_content(n_items: int = N_ITEMS) -> ItemContent:
    """Two kinds of random vectors, the first with gaps, and two categories."""
    present = np.arange(n_items) % 5 != 0
    return ItemContent(
        n_items=n_items,
        modalities=(
            Modality("image", "space of images", unit_vectors(n_items, 6, 1) * present[:, None], present),
            Modality("text", "space of words", unit_vectors(n_items, 5, 2), np.ones(n_items, np.bool_)),
        ),
        category_names=("even", "odd"),
        categories=np.stack([np.arange(n_items) % 2 == 0, np.arange(n_items) % 2 == 1], axis=1),
    )


def chain_profiles() -> UserContent:
    """Half of the users said something."""
    ids = tuple(f"user {row}" for row in range(0, N_USERS, 2))
    text = Modality("text", "space of words", unit_vectors(len(ids), 5, 4), np.ones(len(ids), np.bool_))
    return UserContent(ids, text)


def chain_data(*, ordered: bool = True, profiles: bool = True, validation: bool = True) -> TrainingData:
    split = leave_last_out(chain_sequences(ordered=ordered), part="validation")
    return TrainingData(
        sequences=split.train,
        validation=split if validation else None,
        content=chain_content(),
        user_content=chain_profiles() if profiles else None,
        vocabulary_checksum="of the chain",
    )


def without_user(sequences: Sequences, user_row: int) -> Sequences:
    """The same with one user's interactions gone."""
    keep = sequences.user_rows != user_row
    return replace(sequences.take(keep))
