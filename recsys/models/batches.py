"""From sequences and content to training batches, without state.

A batch is a function of (seed, epoch, index, rank), so the data position of a checkpoint is two numbers, and a run
that goes on from there sees what it would have seen. Global batches do not depend on the number of ranks: each rank
takes every n-th window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recsys.config import Config
from recsys.dataset import ItemContent, Mask, Modality, Rows, Sequences, UserContent
from recsys.models.config import ModelConfig, TrainingConfig
from recsys.models.two_tower import Batch, ItemInputs, QueryInputs

# What a random stream is for; part of its seed.
_PLAN, _SPLIT, _DROPOUT, _NEGATIVES = range(4)
_BUCKET_WIDTH = 8


class DataPosition(Config):
    """Where training stands: `index` batches of `epoch` are done."""

    epoch: int = 0
    index: int = 0


@dataclass(frozen=True)
class Profiles:
    """Profile text vectors by user row.

    Attributes:
        text: float32 [P, D] and its mask.
        of_user: int64 [U], row in `text`, -1 = no profile.
    """

    text: Modality
    of_user: Rows

    @staticmethod
    def of(user_content: UserContent, user_ids: Sequence[str]) -> Profiles:
        """Match profiles to the users of some sequences by id; empty texts count as no profile."""
        row_of = {user_id: row for row, user_id in enumerate(user_content.user_ids) if user_content.text.present[row]}
        of_user = np.array([row_of.get(user_id, -1) for user_id in user_ids], dtype=np.int64)
        return Profiles(user_content.text, of_user)

    def inputs(self, users: Rows, hidden: Mask | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 [B, D] and bool [B] for user rows int64 [B]; `hidden` bool [B] masks some."""
        rows = self.of_user[users]
        known = rows >= 0 if hidden is None else (rows >= 0) & ~hidden
        vectors = np.where(known[:, None], self.text.vectors[np.maximum(rows, 0)], np.float32(0))
        return torch.from_numpy(vectors.astype(np.float32)), torch.from_numpy(known)


def item_inputs(content: ItemContent, rows: Rows, id_mask: Mask) -> ItemInputs:
    """What the item tower reads of `rows` int64 [U]; `id_mask` bool [U] says where the id vector counts."""
    modalities = [
        (torch.from_numpy(modality.vectors[rows].astype(np.float32)), torch.from_numpy(modality.present[rows]))
        for modality in content.modalities
    ]
    categories = torch.from_numpy(content.categories[rows].astype(np.float32)) if content.category_names else None
    return ItemInputs(torch.from_numpy(rows), torch.from_numpy(id_mask), modalities, categories)


def padded(sequences: Sequences, starts: Rows, ends: Rows) -> tuple[Rows, Rows, Rows]:
    """Item rows int64 [B, T], event types int64 [B, T] and lengths int64 [B] of event slices; T >= 1, padding is 0."""
    lengths = ends - starts
    places = np.arange(max(1, int(lengths.max(initial=0))))
    inside = places[None, :] < lengths[:, None]
    at = np.where(inside, starts[:, None] + places[None, :], 0)
    if not sequences.n_events:
        return np.zeros_like(at), np.zeros_like(at), lengths
    return np.where(inside, sequences.item_rows[at], 0), np.where(inside, sequences.event_types[at], 0), lengths


class TrainingBatches:
    """All batches of a training run, for one rank.

    Args:
        sequences: what to learn from.
        content: of all `N` items.
        profiles: matched to `sequences.user_ids`, or None.
        rank, n_ranks: this process's share.
    """

    def __init__(
        self,
        sequences: Sequences,
        content: ItemContent,
        profiles: Profiles | None,
        model: ModelConfig,
        training: TrainingConfig,
        *,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self._sequences, self._content, self._profiles = sequences, content, profiles
        self._model, self._training = model, training
        self._rank, self._n_ranks = rank, n_ranks
        counts = sequences.item_counts(content.n_items)
        self.trained: Mask = counts > 0
        self._known_rows = np.flatnonzero(self.trained).astype(np.int64)
        self._full = training.loss_for(content.n_items) == "full_softmax"
        power = counts[self._known_rows].astype(np.float64) ** training.negative_power
        self._chance = power / power.sum()
        self._cumulative = np.cumsum(self._chance)
        self._plan: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def n_batches(self, epoch: int) -> int:
        return len(self._batches_of(epoch))

    def n_tokens(self, at: DataPosition) -> int:
        """Interactions in a global batch, over all ranks."""
        windows = self._batches_of(at.epoch)[at.index]
        return int((windows[:, 1] - windows[:, 0]).sum())

    def batch(self, at: DataPosition) -> Batch:
        """This rank's share of one global batch. Every rank gets at least one window, of weight 0 if it has none."""
        windows = self._batches_of(at.epoch)[at.index]
        mine = windows[self._rank :: self._n_ranks]
        weight = 1.0 if len(mine) else 0.0
        mine = mine if len(mine) else windows[:1]
        rng = self._rng(_DROPOUT, at.epoch, at.index, self._rank)
        scale = weight * self._n_ranks  # ranks' gradients are averaged
        if self._model.ordered:
            history, types, lengths, queries, targets = self._next_items(mine)
            share = np.full(len(targets), scale / self.n_tokens(at), np.float32)
        else:
            history, types, lengths, queries, targets, share = self._set_completion(mine, at)
            share = share * np.float32(scale / len(windows))
        return self._assembled(mine, history, types, lengths, queries, targets, share, at, rng)

    def _rng(self, stream: int, *at: int) -> np.random.Generator:
        return np.random.default_rng([self._training.seed, stream, *at])

    def _batches_of(self, epoch: int) -> list[NDArray[np.int64]]:
        if self._plan[0] != epoch:
            self._plan = (epoch, self._planned(self._rng(_PLAN, epoch)))
        return self._plan[1]

    def _planned(self, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Global batches in random order: int64 [W, 2] windows of events, of about one length in each batch."""
        windows = _windows(self._sequences, self._model.max_history + 1, rng)  # the last one is only predicted
        windows = windows[rng.permutation(len(windows))]
        lengths = windows[:, 1] - windows[:, 0]
        windows = windows[np.argsort(lengths // _BUCKET_WIDTH, kind="stable")]
        batches, first, longest = [], 0, 0
        for at, length in enumerate((windows[:, 1] - windows[:, 0]).tolist()):
            if at > first and max(longest, length) * (at - first + 1) > self._training.batch_tokens:
                batches.append(windows[first:at])
                first, longest = at, 0
            longest = max(longest, length)
        batches.append(windows[first:])
        return [batches[at] for at in rng.permutation(len(batches))]

    def _next_items(self, windows: NDArray[np.int64]) -> tuple[Rows, Rows, Rows, Rows, Rows]:
        """Every interaction is predicted from those before it in its window."""
        starts, ends = windows[:, 0], windows[:, 1]
        history, types, lengths = padded(self._sequences, starts, ends - 1)
        n_states = history.shape[1] + 1
        inside = np.arange(n_states)[None, :] <= lengths[:, None]
        queries = np.flatnonzero(inside.ravel())
        at = (starts[:, None] + np.arange(n_states)[None, :])[inside]
        return history, types, lengths, queries, self._sequences.item_rows[at]

    def _set_completion(
        self, windows: NDArray[np.int64], at: DataPosition
    ) -> tuple[Rows, Rows, Rows, Rows, Rows, NDArray[np.float32]]:
        """A random part of each window predicts the rest; the weights of a window's targets add up to 1."""
        rng = self._rng(_SPLIT, at.epoch, at.index, self._rank)
        sizes = windows[:, 1] - windows[:, 0]
        lengths = rng.integers(0, sizes)
        history = np.zeros((len(windows), max(1, int(lengths.max()))), np.int64)
        types = np.zeros_like(history)
        targets = []
        for row, (start, end) in enumerate(windows):
            shuffled = start + rng.permutation(end - start)
            history[row, : lengths[row]] = self._sequences.item_rows[shuffled[: lengths[row]]]
            types[row, : lengths[row]] = self._sequences.event_types[shuffled[: lengths[row]]]
            targets.append(self._sequences.item_rows[shuffled[lengths[row] :]])
        n_targets = sizes - lengths
        queries = np.repeat(np.arange(len(windows)) * (history.shape[1] + 1), n_targets)
        share = np.repeat(1.0 / n_targets, n_targets).astype(np.float32)
        return history, types, lengths.astype(np.int64), queries, np.concatenate(targets), share

    def _assembled(
        self,
        windows: NDArray[np.int64],
        history: Rows,
        types: Rows,
        lengths: Rows,
        queries: Rows,
        targets: Rows,
        share: NDArray[np.float32],
        at: DataPosition,
        rng: np.random.Generator,
    ) -> Batch:
        negatives, log_expected = (None, None) if self._full else self._negatives(at)
        rows = self._known_rows
        if negatives is not None:
            rows = np.unique(np.concatenate([history.ravel(), targets, negatives]))
        candidates = np.arange(len(rows)) if negatives is None else np.searchsorted(rows, negatives)
        inside = np.arange(history.shape[1])[None, :] < lengths[:, None]
        places = np.where(inside, np.searchsorted(rows, history), 0)
        types = np.where(rng.random(types.shape) < self._training.event_type_dropout, 0, types)
        id_mask = self.trained[rows] & (rng.random(len(rows)) >= self._model.id_dropout)
        text, text_mask = None, None
        if self._profiles is not None:
            users = np.searchsorted(self._sequences.offsets, windows[:, 0], side="right") - 1
            text, text_mask = self._profiles.inputs(users, rng.random(len(users)) < self._training.user_text_dropout)
        return Batch(
            items=item_inputs(self._content, rows, id_mask),
            queries=QueryInputs(
                torch.from_numpy(places), torch.from_numpy(types), torch.from_numpy(lengths), text, text_mask
            ),
            query_at=torch.from_numpy(queries),
            targets=torch.from_numpy(np.searchsorted(rows, targets)),
            weights=torch.from_numpy(share),
            candidates=torch.from_numpy(candidates),
            log_expected_count=None if log_expected is None else torch.from_numpy(log_expected),
        )

    def _negatives(self, at: DataPosition) -> tuple[Rows, NDArray[np.float32]]:
        """Rows int64 [M] drawn with replacement, and `log(M * chance)` float32 [M]."""
        rng = self._rng(_NEGATIVES, at.epoch, at.index, self._rank)
        n = self._training.n_negatives
        drawn = np.searchsorted(self._cumulative, rng.random(n) * self._cumulative[-1], side="right")
        drawn = np.minimum(drawn, len(self._known_rows) - 1)
        return self._known_rows[drawn], np.log(n * self._chance[drawn]).astype(np.float32)


def _windows(sequences: Sequences, max_length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64 [W, 2]: every interaction in one window; users longer than `max_length` are cut at a random phase."""
    starts, lengths = sequences.offsets[:-1], sequences.lengths
    windows = [np.stack([starts, starts + lengths], axis=1)[(lengths > 0) & (lengths <= max_length)]]
    for start, length in zip(starts[lengths > max_length], lengths[lengths > max_length], strict=True):
        cuts = np.arange(start + rng.integers(1, max_length + 1), start + length, max_length)
        edges = np.concatenate([[start], cuts, [start + length]])
        windows.append(np.stack([edges[:-1], edges[1:]], axis=1))
    return np.concatenate(windows).astype(np.int64)
