"""Copies are found however many there are, and what is merely similar is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embeddings.quality.agreement import nothing_agrees, shared_words, texts_agree
from embeddings.quality.near_duplicates import NO, YES, Duplicates, find_candidates, group_duplicates
from embeddings.quality.nearest import UNCALIBRATED_SIMILARITY, chance_level, nearest
from tests.embeddings.quality.worlds import Vectors, moved, unit, unrelated

Pairs = NDArray[np.int64]


def everything(pairs: Pairs) -> NDArray[np.int8]:
    return np.full(len(pairs), YES, dtype=np.int8)


def found_in(vectors: Vectors) -> Duplicates:
    return group_duplicates(find_candidates(vectors, np.arange(len(vectors))), everything)


def rows_of(found: Duplicates) -> list[list[int]]:
    return [[member.row for member in group] for group in found.groups]


def test_neighbours_are_the_nearest_others_and_never_the_item_itself() -> None:
    vectors = unrelated(300)
    found = nearest(vectors, 5)
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -2)
    assert (found.rows == np.argsort(-similarities, axis=1, kind="stable")[:, :5]).all()
    np.testing.assert_allclose(found.similarities, -np.sort(-similarities, axis=1)[:, :5], atol=1e-6)


def test_one_or_no_vector_has_no_neighbours() -> None:
    assert nearest(unrelated(1)).rows.shape == (1, 0)
    assert found_in(np.empty((0, 8), np.float32)).groups == ()
    assert found_in(unrelated(1)).groups == ()


@pytest.mark.parametrize("dim", [4, 8])
def test_the_dimension_that_vectors_fill_is_told(dim: int) -> None:
    chance = chance_level(nearest(unrelated(2000, dim)).similarities)
    assert chance.dimension == pytest.approx(
        dim - 1, rel=0.15
    )  # of a sphere; at 24 neighbours are too far for a power law


@pytest.mark.parametrize("seed", range(5))
def test_among_unrelated_vectors_hardly_any_pair_is_nearer_than_chance(seed: int) -> None:
    assert len(find_candidates(unrelated(1500, seed=seed), np.arange(1500)).pairs) <= 2  # one item is expected


@pytest.mark.parametrize("n_copies", [3, 300, 1000])
def test_copies_are_found_however_many_there_are(n_copies: int) -> None:
    originals = unrelated(1000)
    copies = moved(originals[:n_copies], 0.15)
    found = found_in(np.concatenate([originals, copies]))
    expected = [[row, 1000 + row] for row in range(n_copies)]
    pairs = sorted(sorted(group) for group in rows_of(found))
    assert [pair for pair in pairs if pair in expected] == expected
    assert len(pairs) <= n_copies + 1


def test_too_few_items_fall_back_to_a_fixed_similarity_and_say_so() -> None:
    found = found_in(np.concatenate([unrelated(20), moved(unrelated(20)[:1], 0.05)]))
    assert not found.candidates.chance.calibrated
    assert found.candidates.chance.similarity == UNCALIBRATED_SIMILARITY
    assert rows_of(found) == [[0, 20]]


def test_equal_vectors_are_told_from_near_ones() -> None:
    vectors = unrelated(200)
    vectors[[150, 151]] = vectors[3]
    vectors[152] = moved(vectors[7:8], 0.05)[0]
    found = found_in(vectors)
    assert rows_of(found) == [[3, 150, 151], [7, 152]]
    assert [member.same for member in found.groups[0]] == [True, True, True]
    assert [member.same for member in found.groups[1]] == [True, False]
    assert found.n_same_groups == 1


def test_a_copy_of_a_shared_picture_joins_all_its_items() -> None:
    vectors = unrelated(200)
    vectors[150] = vectors[3]
    vectors[151] = moved(vectors[3:4], 0.05)[0]
    assert [sorted(group) for group in rows_of(found_in(vectors))] == [[3, 150, 151]]


def test_a_chain_of_small_steps_is_not_one_group() -> None:
    angles = np.arange(8) * 0.1  # neighbours are .1 apart, the ends .7
    chain = np.zeros((8, 24))
    chain[:, 0], chain[:, 1] = np.cos(angles), np.sin(angles)
    found = found_in(np.concatenate([unit(chain), unrelated(600)]))
    threshold = found.candidates.chance.similarity
    groups = [group for group in found.groups if group[0].row < 8]
    assert sum(len(group) for group in groups) >= 6
    for group in groups:
        head = angles[group[0].row]
        assert all(np.cos(angles[member.row] - head) >= threshold - 1e-3 for member in group)


def test_pairs_whose_contents_differ_are_dropped_and_counted() -> None:
    vectors = np.concatenate([unrelated(300), moved(unrelated(300)[:2], 0.05)])
    candidates = find_candidates(vectors, np.arange(302))

    def judge(pairs: Pairs) -> NDArray[np.int8]:
        return np.where((pairs == 0).any(axis=1), YES, NO).astype(np.int8)

    found = group_duplicates(candidates, judge)
    assert rows_of(found) == [[0, 300]]
    assert found.n_pairs_unlike == len(candidates.pairs) - 1


def test_what_cannot_be_compared_counts_only_where_it_is_very_near() -> None:
    originals = unrelated(300)
    vectors = np.concatenate([originals, moved(originals[:1], 0.05), moved(originals[1:2], 0.5, seed=4)])
    candidates = find_candidates(vectors, np.arange(302))
    assert {(0, 300), (1, 301)} <= {tuple(pair) for pair in candidates.pairs.tolist()}
    found = group_duplicates(candidates, nothing_agrees)
    assert rows_of(found) == [[0, 300]]
    assert not found.groups[0][1].checked


def test_rows_may_have_gaps() -> None:
    vectors = unrelated(100)
    vectors[60] = vectors[2]
    found = group_duplicates(find_candidates(vectors, np.arange(100) * 10), everything)
    assert rows_of(found) == [[20, 600]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.integers(0, 5))
def test_no_item_is_ever_in_two_groups_and_members_are_near_to_their_head(places: list[int], seed: int) -> None:
    vectors = moved(unrelated(13, 6)[places], 0.1 * seed, seed)
    found = found_in(vectors)
    rows = [row for group in rows_of(found) for row in group]
    assert len(rows) == len(set(rows))
    for group in found.groups:
        assert len(group) >= 2
        similarities = vectors[[member.row for member in group]] @ vectors[group[0].row]
        assert similarities.min() >= found.candidates.chance.similarity - 1e-2


def test_words_decide_between_a_copy_and_a_sequel() -> None:
    texts = {
        0: "The Best Man. Harper's novel is almost out and his girlfriend wants more.",
        1: "The Best Man (1999). Harper's novel is almost out and his girlfriend wants more!",
        2: "The Best Man Holiday. Fifteen years later the friends meet for Christmas.",
        3: None,
    }
    verdicts = texts_agree(texts.get)(np.array([[0, 1], [0, 2], [0, 3]]))
    assert verdicts.tolist() == [1, 0, -1]


def test_shared_words_are_shares_of_word_pairs() -> None:
    assert shared_words("a b c", "a b d") == 1 / 3  # ab of ab, bc, bd
    assert shared_words("Same words, here", "same words HERE!") == 1.0
    assert shared_words("one", "one two") == 1 / 2  # of single words: one text has only one
    assert shared_words("...", "...") == 1.0
    assert shared_words("...", "!!!") == 0.0
