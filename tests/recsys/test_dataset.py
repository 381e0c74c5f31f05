from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.dataset import Sequences, global_temporal, leave_last_out


def sequences(*histories: Sequence[int], times_ms: Sequence[Sequence[int]] | None = None) -> Sequences:
    """One user a history of item rows; without times the data has none."""
    items = [row for history in histories for row in history]
    times = [0] * len(items) if times_ms is None else [at for user in times_ms for at in user]
    return Sequences(
        user_ids=tuple(f"user {user}" for user in range(len(histories))),
        offsets=np.cumsum([0, *map(len, histories)]).astype(np.int64),
        item_rows=np.array(items, dtype=np.int64),
        event_types=np.arange(len(items), dtype=np.int64) % 2,
        occurred_at_ms=np.array(times, dtype=np.int64),
    )


def histories(data: Sequences) -> list[list[int]]:
    return [data.item_rows[data.of(user)].tolist() for user in range(data.n_users)]


WORLD = sequences([1, 2, 3, 4], [5, 6], [7, 8, 9], [])


def test_the_last_interaction_is_the_test_and_the_one_before_it_validates() -> None:
    validation, test = leave_last_out(WORLD, part="validation"), leave_last_out(WORLD, part="test")
    assert histories(validation.train) == [[1, 2], [5, 6], [7], []]
    assert histories(validation.history) == [[1, 2], [5, 6], [7], []]
    assert (validation.target_users.tolist(), validation.target_items.tolist()) == ([0, 2], [3, 8])
    assert histories(test.train) == [[1, 2], [5, 6], [7], []]
    assert histories(test.history) == [[1, 2, 3], [5, 6], [7, 8], []]
    assert (test.target_users.tolist(), test.target_items.tolist()) == ([0, 2], [4, 9])


def test_users_with_fewer_than_three_interactions_only_train() -> None:
    split = leave_last_out(sequences([1], [1, 2], []), part="test")
    assert histories(split.train) == [[1], [1, 2], []]
    assert len(split.target_users) == 0


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=6))
def test_nothing_is_lost_or_seen_too_early(users: list[list[int]]) -> None:
    data = sequences(*users)
    validation, test = leave_last_out(data, part="validation"), leave_last_out(data, part="test")
    assert histories(validation.train) == histories(test.train) == histories(validation.history)
    of_validation = dict(zip(validation.target_users.tolist(), validation.target_items.tolist(), strict=True))
    of_test = dict(zip(test.target_users.tolist(), test.target_items.tolist(), strict=True))
    for user, history in enumerate(users):
        held_out = [target[user] for target in (of_validation, of_test) if user in target]
        assert histories(test.train)[user] + held_out == history
        assert len(held_out) == (2 if len(history) >= 3 else 0)
        assert histories(test.history)[user] + held_out[1:] == history


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'train'"):
        leave_last_out(WORLD, part="train")


def test_the_temporal_split_cuts_at_one_point_in_time_for_everybody() -> None:
    # ten interactions at 10, 20, ..., 100; the .7 quantile (the lower one) is the seventh of them: 0.7 * 9 = 6.3 → 70
    data = sequences([1, 2, 3, 4], [5, 6, 7], [8, 9, 0], times_ms=[[10, 20, 30, 80], [40, 50, 90], [60, 70, 100]])
    split = global_temporal(data, quantile=0.7)
    assert histories(split.train) == [[1, 2, 3], [5, 6], [8, 9]]
    assert split.history is split.train
    assert list(zip(split.target_users.tolist(), split.target_items.tolist(), strict=True)) == [(0, 4), (1, 7), (2, 0)]


def test_in_a_temporal_split_a_user_may_have_several_targets_and_none_without_a_history() -> None:
    data = sequences([1, 2, 3], [4, 5], times_ms=[[1, 8, 9], [8, 9]])
    split = global_temporal(data, quantile=0.2)  # 0.2 * 4 = 0.8 → the first: 1
    assert histories(split.train) == [[1], []]
    assert list(zip(split.target_users.tolist(), split.target_items.tolist(), strict=True)) == [(0, 2), (0, 3)]


def test_what_happens_at_the_cut_itself_trains() -> None:
    data = sequences([1, 2, 3, 4], times_ms=[[5, 5, 5, 6]])
    assert histories(global_temporal(data, quantile=0.5).train) == [[1, 2, 3]]


def test_the_cut_is_exact_to_the_millisecond() -> None:
    start = 1_700_000_000_001
    data = sequences([1, 2, 3], times_ms=[[start, start + 1, start + 2]])
    assert histories(global_temporal(data, quantile=0.5).train) == [[1, 2]]


def test_a_temporal_split_of_data_without_times_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="leave_last_out"):
        global_temporal(WORLD)


def test_a_sample_of_targets_is_the_same_for_the_same_seed_and_keeps_users_with_their_items() -> None:
    split = leave_last_out(sequences(*[[0, 0, row] for row in range(50)]), part="test")
    sample, again, other = (split.sampled(10, seed=seed) for seed in (1, 1, 2))
    assert sample.target_users.tolist() == again.target_users.tolist() != other.target_users.tolist()
    assert sample.target_users.tolist() == sample.target_items.tolist()  # user u's target is item u
    assert sample.target_users.tolist() == sorted(set(sample.target_users.tolist()))
    assert len(sample.target_users) == 10
    assert split.sampled(50, seed=1) is split


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=5), st.integers(0, 2**32 - 1))
def test_taking_some_interactions_keeps_users_order_and_what_belongs_together(
    users: list[list[int]], seed: int
) -> None:
    data = sequences(*users, times_ms=[[10 * user + at for at in range(len(h))] for user, h in enumerate(users)])
    keep = np.random.default_rng(seed).random(data.n_events) < 0.5
    taken = data.take(keep)
    assert taken.user_ids == data.user_ids
    assert taken.offsets.dtype == np.int64
    for user in range(data.n_users):
        kept = np.flatnonzero(keep[data.of(user)]) + data.offsets[user]
        for name in ("item_rows", "event_types", "occurred_at_ms"):
            assert getattr(taken, name)[taken.of(user)].tolist() == getattr(data, name)[kept].tolist()


def test_counts_and_lengths() -> None:
    data = sequences([0, 2, 0], [], [2])
    assert data.item_counts(4).tolist() == [2, 0, 2, 0]
    assert data.lengths.tolist() == [3, 0, 1]
    assert data.user_rows.tolist() == [0, 0, 0, 2]
    assert (data.n_users, data.n_events) == (3, 4)


def test_no_users_are_no_trouble() -> None:
    nobody = sequences()
    assert (nobody.n_users, nobody.n_events, nobody.item_counts(2).tolist()) == (0, 0, [0, 0])
    assert len(leave_last_out(nobody, part="test").target_users) == 0


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    empty = np.empty(0, np.int64)
    with pytest.raises(ValueError, match="offsets must have 2 entries, not 1"):
        Sequences(("u",), np.zeros(1, np.int64), empty, empty, empty)
    with pytest.raises(ValueError, match="event_types must have 1 entries, not 0"):
        Sequences(("u",), np.array([0, 1]), np.array([3]), empty, np.array([0]))
    with pytest.raises(ValueError, match="offsets must begin with 0 and never fall"):
        Sequences(("u", "v"), np.array([0, 2, 1]), np.array([3]), np.array([1]), np.array([0]))
