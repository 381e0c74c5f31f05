"""How items are grouped for one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embeddings.preprocess.features import Features
from recsys.config import Config


class BatchLimits(Config):
    """The most that one forward pass takes.

    Attributes:
        max_items: items of one batch.
        max_tokens: items times the longest of them; small batches stay in a CPU's cache (measured: 1,024 tokens
            cost 29 CPU-ms a text of 125 tokens, 4,096 cost 38). A GPU wants more.
    """

    max_items: int = 32
    max_tokens: int = 1024


def batches(features: Sequence[Features], limits: BatchLimits) -> list[list[int]]:
    """Positions of `features`, batch by batch: longest texts first, equal lengths in the order given.

    Sorting by length leaves little padding. Images and other features of one shape keep their order. The same
    features give the same batches, which is what makes vectors repeatable to the last bit.
    """
    lengths = [n_tokens(item) for item in features]
    order = sorted(range(len(features)), key=lambda position: -lengths[position])
    result: list[list[int]] = []
    for position in order:
        batch = result[-1] if result else None
        if batch is None or len(batch) >= limits.max_items or (len(batch) + 1) * lengths[batch[0]] > limits.max_tokens:
            result.append([position])
        else:
            batch.append(position)
    return result


def n_tokens(features: Features) -> int:
    """Token count of a text, 1 for anything else (its cost does not depend on its content)."""
    return len(features) if features.ndim == 1 and np.issubdtype(features.dtype, np.integer) else 1
