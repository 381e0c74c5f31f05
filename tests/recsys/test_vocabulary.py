from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.events import hash64
from recsys.types import MAX_ID_CHARACTERS
from recsys.vocabulary import Vocabulary

# Any text that UTF-8 can carry, up to the longest id, and some that look alike or like numbers.
LOOKALIKES = ("1", "01", "1.0", "é", "e\u0301", "a/b", " a", "a ", "NaN", "None", "-1", "影片", "\U0001f3ac", "A", "a")
IDS = st.one_of(
    st.sampled_from(LOOKALIKES),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_ID_CHARACTERS),
)


@given(st.lists(IDS, unique=True, max_size=40))
def test_ids_and_rows_are_a_bijection_whatever_the_ids(item_ids: list[str]) -> None:
    vocabulary = Vocabulary(item_ids)
    assert len(vocabulary) == len(item_ids)
    assert [vocabulary.row(item_id) for item_id in item_ids] == list(range(len(item_ids)))
    rows, unknown = vocabulary.rows(item_ids)
    assert (rows.tolist(), unknown) == (list(range(len(item_ids))), ())
    assert rows.dtype == np.int64
    assert [vocabulary.item_ids[row] for row in rows] == item_ids


@given(st.lists(IDS, unique=True, max_size=20), st.lists(IDS, max_size=20))
def test_unknown_ids_are_told_apart_in_order(item_ids: list[str], asked: list[str]) -> None:
    vocabulary = Vocabulary(item_ids)
    rows, unknown = vocabulary.rows(asked)
    assert [vocabulary.item_ids[row] for row in rows] == [each for each in asked if each in item_ids]
    assert list(unknown) == [each for each in asked if each not in item_ids]
    assert [each in vocabulary for each in asked] == [vocabulary.row(each) is not None for each in asked]


def test_ids_that_look_alike_are_different_ids() -> None:
    vocabulary = Vocabulary(LOOKALIKES)
    assert len({vocabulary.row(item_id) for item_id in LOOKALIKES}) == len(LOOKALIKES)
    assert 1 not in vocabulary


def test_an_id_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "b", "a"])


@given(st.lists(IDS, unique=True, max_size=8), st.lists(IDS, unique=True, max_size=8))
def test_the_checksum_is_that_of_the_ids_and_their_order(one: list[str], other: list[str]) -> None:
    assert (Vocabulary(one).checksum == Vocabulary(other).checksum) == (one == other)


def test_ids_that_join_to_the_same_text_have_other_checksums() -> None:
    assert Vocabulary(["a", "bc"]).checksum != Vocabulary(["ab", "c"]).checksum
    assert Vocabulary(["abc"]).checksum != Vocabulary(["ab", "c"]).checksum


def test_the_checksum_is_the_same_on_every_machine() -> None:
    # sha256 of: 1 as four little-endian bytes, "a", 2 as four little-endian bytes, "é" in UTF-8
    assert Vocabulary(["a", "é"]).checksum == "05a519c01404d2418818913d31f3c7cea9e00f092f63308093a210a145bf033a"


def test_hashes_are_those_of_the_ids_in_order() -> None:
    vocabulary = Vocabulary(LOOKALIKES)
    assert vocabulary.hashes.tolist() == [hash64(item_id) for item_id in LOOKALIKES]
    assert vocabulary.hashes.dtype == np.uint64


def test_an_empty_vocabulary_knows_nothing() -> None:
    vocabulary = Vocabulary([])
    assert (len(vocabulary), vocabulary.row("a"), len(vocabulary.hashes)) == (0, None, 0)
    assert vocabulary.rows(["a"])[1] == ("a",)
