"""How items are grouped for one forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embeddings.preprocess.features import Features
from recsys.config import Config


class BatchLimits(Config):
    """The most that one forward pass takes; every encoder names its own (`Encoder.limits`).

    Attributes:
        max_items: items of one batch.
        max_tokens: items times the longest of them; small batches stay in a CPU's cache (measured for ONNX Runtime:
            1,024 tokens cost 29 CPU-ms a text of 125 tokens, 4,096 cost 38). A GPU wants more.
    """

    max_items: int = 32
    max_tokens: int = 1024


def batches(features: Sequence[Features], limits: BatchLimits) -> list[list[int]]:
    """Positions of `features`, batch by batch: longest texts first, equal lengths in the order given.

    Sorting by length leaves little padding. Images and other features of one shape keep their order. The same
    features give the same batches, which is what makes vectors repeatable to the last bit.
    """
    lengths = np.fromiter((n_tokens(item) for item in features), dtype=np.int64, count=len(features))
    order = np.argsort(-lengths, kind="stable")
    longest_first = lengths[order]
    result: list[list[int]] = []
    start = 0
    while start < len(order):
        # The first of a batch is its longest, and so decides how many fit; one always does.
        fitting = limits.max_tokens // max(int(longest_first[start]), 1)
        end = start + max(1, min(limits.max_items, fitting))
        result.append(order[start:end].tolist())
        start = end
    return result


def n_tokens(features: Features) -> int:
    """Token count of a text, 1 for anything else (its cost does not depend on its content)."""
    return len(features) if features.ndim == 1 and features.dtype.kind in "iu" else 1
