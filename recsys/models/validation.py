"""NDCG@10 on validation users while a model trains: full ranking, what a user already has excluded."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist

from recsys.dataset import ItemContent, Mask, Split
from recsys.metrics.ranking import ndcg_of_ranks, rank_of_target
from recsys.models.batches import Profiles
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.models.project import all_item_vectors, query_vectors
from recsys.models.two_tower import TwoTower

MAX_SCORES = 8_000_000


class Judge:
    """Judges towers on a fixed sample of targets, shared among the ranks."""

    def __init__(
        self,
        validation: Split,
        content: ItemContent,
        profiles: Profiles | None,
        trained: Mask,
        model: ModelConfig,
        training: TrainingConfig,
    ) -> None:
        self._history, self._content, self._profiles, self._trained = validation.history, content, profiles, trained
        self._max_history = model.max_history
        n_targets = len(validation.target_users)
        sample = np.arange(n_targets)
        if n_targets > training.max_validation_users:
            rng = np.random.default_rng([training.seed, n_targets])
            sample = np.sort(rng.choice(n_targets, training.max_validation_users, replace=False))
        self._users, self._targets = validation.target_users[sample], validation.target_items[sample]

    def ndcg_at_10(self, towers: TwoTower) -> float:
        """The mean over all targets; every rank calls it at once and gets the same number."""
        item_vectors = all_item_vectors(towers, self._content, self._trained)
        mine = np.arange(dist.get_rank(), len(self._users), dist.get_world_size())
        step = max(1, MAX_SCORES // self._content.n_items)
        gained = 0.0
        for start in range(0, len(mine), step):
            users, targets = self._users[mine[start : start + step]], self._targets[mine[start : start + step]]
            queries = query_vectors(towers, item_vectors, self._history, users, self._profiles, self._max_history)
            seen = [self._history.item_rows[self._history.of(int(user))] for user in users]
            places = np.repeat(np.arange(len(users)), [len(rows) for rows in seen])
            ranks = rank_of_target(queries @ item_vectors.T, targets, (places, np.concatenate(seen)))
            gained += float(ndcg_of_ranks(ranks, 10).sum())
        total = torch.tensor(gained, dtype=torch.float64, device=next(towers.parameters()).device)
        dist.all_reduce(total)
        return float(total) / len(self._users)
