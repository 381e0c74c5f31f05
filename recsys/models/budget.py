"""How long to train, in interactions to predict, from the size of the data alone: never from a clock."""

from __future__ import annotations

from recsys.models.config import FULL_SOFTMAX_MAX_ITEMS, TrainingConfig

MAX_PASSES = 24
MAX_TOKENS = 24_000_000
"""At the reference work, some ten minutes on two CPU cores."""

REFERENCE_DIM = 64


def token_budget(n_items: int, n_events: int, dim: int) -> int:
    """Interactions to train on: `MAX_PASSES` over the data, bounded by work, but never less than one pass.

    Work per interaction is the multiplications of two transformer blocks and of the softmax's logits, relative to
    dim 64 with a sampled softmax. Measured on one core of 2023: 30,000 interactions a second at the reference, so
    MovieLens-small (99,000 interactions to train on) gets 2.4 million, about a minute on two cores, and MovieLens-1M
    24 million, about ten.
    """
    allowed = int(MAX_TOKENS * _work(FULL_SOFTMAX_MAX_ITEMS + 1, REFERENCE_DIM) / _work(n_items, dim))
    return max(1, n_events, min(MAX_PASSES * n_events, allowed))


def _work(n_items: int, dim: int) -> int:
    n_negatives = TrainingConfig.model_fields["n_negatives"].default
    n_logits = n_items if n_items <= FULL_SOFTMAX_MAX_ITEMS else n_negatives
    return 2 * 12 * dim * dim + n_logits * dim
