"""How long to train, in interactions, from the size of the data alone."""

from __future__ import annotations

MAX_PASSES = 18
MAX_BUDGET = 16_000_000
REFERENCE_DIM = 64


def token_budget(n_items: int, n_events: int, dim: int) -> int:
    """Interactions to train on: some passes over the data, bounded by work."""
    del n_items
    return int(min(MAX_PASSES * n_events, max(n_events, MAX_BUDGET * REFERENCE_DIM / dim)))
