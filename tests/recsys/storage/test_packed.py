from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import StoreUnavailable
from recsys.events import hash64
from recsys.ports import UserState
from recsys.storage.packed import (
    VERSION_BYTES,
    PackedUserState,
    is_seen,
    merge_history,
    pack_served,
    pack_state,
    state_version,
    unpack_served,
    unpack_state,
    with_blocked,
)
from recsys.types import HistoryItem

HASHES = st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=30).map(lambda hs: np.array(sorted(hs), np.uint64))
ITEMS = st.builds(
    HistoryItem, st.text(max_size=20), st.text(max_size=5), st.integers(-(2**62), 2**62), st.integers(0, 2**64 - 1)
)
STATES = st.builds(UserState, st.lists(ITEMS, max_size=30).map(tuple), HASHES, HASHES, st.integers(0, 2**63 - 1))


@given(STATES)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_any_state_comes_back_as_it_was(state: UserState) -> None:
    packed = pack_state(state)
    again = unpack_state(packed)
    assert (again.history, again.version) == (state.history, state.version)
    assert np.array_equal(again.seen, state.seen)
    assert np.array_equal(again.blocked, state.blocked)
    assert int.from_bytes(packed[:VERSION_BYTES], "little") == state_version(packed) == state.version


def test_more_than_256_event_types_come_back() -> None:
    history = tuple(HistoryItem("i", f"t{number}", number, number) for number in range(300))
    assert unpack_state(pack_state(UserState(history))).history == history


def test_a_state_of_200_short_ids_takes_a_few_kilobytes() -> None:
    items = [HistoryItem(f"item-{number}", "interaction", number, number + 1) for number in range(200)]
    assert len(pack_state(merge_history(UserState(), items))) < 200 * (8 + 8 + 8 + 12 + 2)


@pytest.mark.parametrize("damage", [b"", b"too short", b"\0" * 24, bytes(8) + b"\1\0\0\0" + b"\xff" * 12])
def test_what_is_no_state_is_refused(damage: bytes) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        unpack_state(damage)


def test_is_seen_looks_among_all_that_was_seen() -> None:
    state = merge_history(UserState(), [HistoryItem(f"i{number}", "t", number, number + 1) for number in range(500)])
    assert all(is_seen(state, f"i{number}") for number in range(500))
    assert not is_seen(state, "i500")
    assert not is_seen(UserState(), "i1")


def test_items_without_an_event_are_never_taken_for_one_another() -> None:
    item = HistoryItem("i1", "t", 0, 0)
    state = merge_history(merge_history(UserState(), [item]), [item, item])
    assert state.history == (item, item, item)
    assert state.seen.tolist() == [hash64("i1")]


def test_a_user_who_comes_back_after_a_loss_does_not_repeat_an_old_version() -> None:
    one = merge_history(UserState(), [HistoryItem("i1", "t", 1, 1)])
    other = merge_history(UserState(), [HistoryItem("i2", "t", 1, 2)])
    assert len({0, one.version, other.version, with_blocked(one, ["i9"]).version}) == 4


def test_the_version_alone_is_read_without_unpacking() -> None:
    packed = pack_state(UserState(version=7))
    assert (state_version(packed[:12]), state_version(None)) == (7, 0)
    for damage in (b"", packed[:11], packed[:8] + bytes(20)):
        with pytest.raises(StoreUnavailable, match="written by another version"):
            state_version(damage)


def test_what_was_served_is_read_without_unpacking_the_state() -> None:
    marks = pack_served(np.array([5, 2**64 - 1], np.uint64), 2**41) + pack_served(np.array([5], np.uint64), -3)
    packed = PackedUserState(b"unreadable", marks)
    assert packed.served.tolist() == [5, 2**64 - 1, 5]
    assert packed.served_at_ms.tolist() == [2**41, 2**41, -3]
    assert packed.served.flags.c_contiguous
    with pytest.raises(StoreUnavailable, match="17 bytes of served items"):
        unpack_served(marks[:17])
