"""From towers to vectors: all items' vectors, and the query vectors of users' histories.

Letters: N items, B users, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.dataset import ItemContent, Mask, Rows, Sequences
from recsys.models.batches import Profiles, item_inputs, padded
from recsys.models.two_tower import TwoTower

Vectors = NDArray[np.float32]

ITEMS_PER_BATCH = 4096
TOKENS_PER_BATCH = 16_384


def all_item_vectors(towers: TwoTower, content: ItemContent, trained: Mask) -> Vectors:
    """float32 [N, D], each of length 1, in batches of fixed size: the same weights give the same bytes.

    Items without interactions in training (`trained` bool [N] is False) are carried by content alone: their id
    vector was never learned. Under several ranks every rank must call this at once, and each gets all rows.
    """
    device = next(towers.item.parameters()).device
    vectors = np.empty((content.n_items, towers.item.unknown_id.shape[0]), np.float32)
    with _frozen(towers):
        for start in range(0, content.n_items, ITEMS_PER_BATCH):
            rows = np.arange(start, min(start + ITEMS_PER_BATCH, content.n_items), dtype=np.int64)
            inputs = item_inputs(content, rows, trained[rows]).to(device)
            vectors[rows] = towers.item_vectors(inputs).cpu().numpy()
    return vectors


def query_vectors(
    towers: TwoTower,
    item_vectors: Vectors,
    sequences: Sequences,
    users: Rows,
    profiles: Profiles | None,
    max_history: int,
) -> Vectors:
    """float32 [B, D], one query for each of `users` (int64 [B]), from all of its interactions in `sequences`.

    Users are encoded in batches of similar length, so hardly any padding is computed.
    """
    device = next(towers.query.parameters()).device
    ends = sequences.offsets[1:][users]
    starts = np.maximum(sequences.offsets[:-1][users], ends - max_history)
    result = np.empty((len(users), item_vectors.shape[1]), np.float32)
    by_length = np.argsort(ends - starts, kind="stable")
    with _frozen(towers):
        first = 0
        while first < len(by_length):
            width = TOKENS_PER_BATCH // max(1, int((ends - starts)[by_length[min(first + 63, len(by_length) - 1)]]))
            part = by_length[first : first + max(1, min(width, 64))]
            rows, types, lengths = padded(sequences, starts[part], ends[part])
            inputs = [torch.from_numpy(each).to(device) for each in (item_vectors[rows], types, lengths)]
            if profiles is not None:
                inputs += [each.to(device) for each in profiles.inputs(users[part])]
            result[part] = towers.query(*inputs).cpu().numpy()
            first += len(part)
    return result


class _frozen:
    """Evaluation mode without gradients, and back to what it was."""

    def __init__(self, towers: TwoTower) -> None:
        self._towers, self._was_training, self._no_grad = towers, towers.training, torch.no_grad()

    def __enter__(self) -> None:
        self._towers.eval()
        self._no_grad.__enter__()

    def __exit__(self, *error: object) -> None:
        self._no_grad.__exit__(*error)
        self._towers.train(self._was_training)
