"""Behaviour and content as arrays of rows: what training, evaluation and release building share.

Letters: U users, N items, E interactions, D width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sequences:
    """The users' interactions, user after user, each user's in order.

    Attributes:
        user_ids: the external ids, `U` of them.
        offsets: int64 [U + 1]; user u owns the slice `offsets[u]:offsets[u + 1]`.
        item_rows: int64 [E].
        event_types: int64 [E], codes from `event_type_names` (code 0 is "unknown to this model").
        occurred_at_ms: int64 [E], UTC milliseconds; 0 where the data has no times.
        event_type_names: the name of each code.
        ordered: False where the data has neither position nor time; the query tower then runs without order.
    """

    user_ids: tuple[str, ...]
    offsets: Rows
    item_rows: Rows
    event_types: Rows
    occurred_at_ms: Rows
    event_type_names: tuple[str, ...] = ("unknown", "interaction")
    ordered: bool = True

    def __post_init__(self) -> None:
        if len(self.offsets) != len(self.user_ids) + 1:
            raise ValueError(f"offsets must have {len(self.user_ids) + 1} entries, not {len(self.offsets)}")
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise ValueError("offsets must begin with 0 and never fall")
        n_events = int(self.offsets[-1])
        for name in ("item_rows", "event_types", "occurred_at_ms"):
            if len(getattr(self, name)) != n_events:
                raise ValueError(f"{name} must have {n_events} entries, not {len(getattr(self, name))}")

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_events(self) -> int:
        return int(self.offsets[-1])

    @property
    def lengths(self) -> Rows:
        """int64 [U], interactions of each user."""
        return np.diff(self.offsets)

    @property
    def user_rows(self) -> Rows:
        """int64 [E], the user row of each interaction."""
        return np.repeat(np.arange(self.n_users, dtype=np.int64), self.lengths)

    def of(self, user_row: int) -> slice:
        """The slice of one user's interactions."""
        return slice(int(self.offsets[user_row]), int(self.offsets[user_row + 1]))

    def take(self, keep: Mask) -> Sequences:
        """The same users with only the interactions where `keep` (bool [E]) holds; may leave users empty."""
        kept_per_user = np.bincount(self.user_rows[keep], minlength=self.n_users)
        return Sequences(
            user_ids=self.user_ids,
            offsets=np.concatenate([[0], np.cumsum(kept_per_user)]).astype(np.int64),
            item_rows=self.item_rows[keep],
            event_types=self.event_types[keep],
            occurred_at_ms=self.occurred_at_ms[keep],
            event_type_names=self.event_type_names,
            ordered=self.ordered,
        )

    def item_counts(self, n_items: int) -> Rows:
        """int64 [N], how often each item was interacted with."""
        return np.bincount(self.item_rows, minlength=n_items).astype(np.int64)


@dataclass(frozen=True)
class Modality:
    """One kind of content as frozen vectors of one embedding space.

    Attributes:
        name: "image", "text", "audio" or "transcript".
        space_id: the embedding space (see `recsys.manifest.EmbeddingSpace`).
        vectors: float32 [N, D], L2-normalised; rows without content are zeros and masked.
        present: bool [N], False where the item has no such content.
    """

    name: str
    space_id: str
    vectors: Vectors
    present: Mask


@dataclass(frozen=True)
class ItemContent:
    """All that is known of items without behaviour.

    Attributes:
        modalities: image and text vectors, any number of them, in a fixed order.
        category_names: `C` names.
        categories: bool [N, C], multi-hot.
    """

    n_items: int
    modalities: tuple[Modality, ...]
    category_names: tuple[str, ...]
    categories: Mask


@dataclass(frozen=True)
class UserContent:
    """What users told about themselves: masked text vectors.

    Attributes:
        user_ids: the users that have a profile.
        text: float32 [P, D] and its mask, in the text encoder's space.
    """

    user_ids: tuple[str, ...]
    text: Modality


@dataclass(frozen=True)
class Split:
    """History and target of an evaluation: what the model may see, and what it must find.

    Attributes:
        train: interactions the model is fitted on.
        history: interactions known when the target is predicted (train plus, for test, the validation items).
        target_users: int64 [T], user rows that have a target.
        target_items: int64 [T], the item row to find for each of them (temporal splits repeat a user).
    """

    train: Sequences
    history: Sequences
    target_users: Rows
    target_items: Rows

    def sampled(self, max_targets: int, *, seed: int) -> Split:
        """The split with at most `max_targets` targets, drawn once and for all by `seed`."""
        if len(self.target_users) <= max_targets:
            return self
        kept = np.sort(np.random.default_rng(seed).permutation(len(self.target_users))[:max_targets])
        return Split(self.train, self.history, self.target_users[kept], self.target_items[kept])


def leave_last_out(sequences: Sequences, *, part: str) -> Split:
    """Leave-last-out: last interaction = test, the one before = validation, the rest trains.

    Users with fewer than 3 interactions only train. `part` is "validation" or "test"; both fit on the same
    `train`; the history of "test" includes the validation item.
    """
    if part not in ("validation", "test"):
        raise ValueError(f"part must be 'validation' or 'test', not {part!r}")
    from_end = sequences.offsets[1:][sequences.user_rows] - 1 - np.arange(sequences.n_events)
    long_enough = (sequences.lengths >= 3)[sequences.user_rows]
    train = sequences.take(~long_enough | (from_end >= 2))
    history = train if part == "validation" else sequences.take(~long_enough | (from_end >= 1))
    target_users = np.flatnonzero(sequences.lengths >= 3)
    target_at = sequences.offsets[1:][target_users] - (2 if part == "validation" else 1)
    return Split(train, history, target_users, sequences.item_rows[target_at])


def global_temporal(sequences: Sequences, *, quantile: float = 0.9) -> Split:
    """One point in time for everybody: later interactions of users with a history are the test.

    Raises:
        ValueError: the data has no times.
    """
    if not sequences.occurred_at_ms.any():
        raise ValueError("a temporal split needs occurred_at, and this data has none; use leave_last_out")
    cut_ms = np.quantile(sequences.occurred_at_ms, quantile, method="lower")
    before = sequences.occurred_at_ms <= cut_ms
    train = sequences.take(before)
    users = sequences.user_rows[~before]
    has_history = train.lengths[users] > 0
    return Split(train, train, users[has_history], sequences.item_rows[~before][has_history])
