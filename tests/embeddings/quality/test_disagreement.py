"""Wrong texts are found where something can be told, and nothing is told where nothing can be."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.quality.disagreement import FEWEST_ITEMS, Disagreement, find_disagreement
from tests.embeddings.quality.worlds import Vectors, paired, unit, unrelated

N, N_WRONG = 1000, 20


def swapped(texts: Vectors) -> Vectors:
    """The first `N_WRONG` items have one another's texts."""
    wrong = texts.copy()
    wrong[:N_WRONG] = np.roll(texts[:N_WRONG], 1, axis=0)
    return wrong


def precision(found: Disagreement, k: int = N_WRONG) -> float:
    assert found.order is not None
    return float((found.order[:k] < N_WRONG).mean())


def test_swapped_texts_are_the_worst_where_one_model_made_both() -> None:
    rng = np.random.default_rng(0)
    images = unrelated(N)
    texts = unit(images + 0.3 * rng.normal(size=images.shape) / np.sqrt(24))
    found = find_disagreement(images, swapped(texts), aligned=True)
    assert found.method == "aligned"
    assert precision(found) == 1.0
    assert found.n_outliers >= N_WRONG
    assert found.power > 0.5  # as low as the lowest 1 %, which are wrong ones here


def test_swapped_texts_are_the_worst_where_a_map_must_be_fitted() -> None:
    images, texts = paired(N, noise=0.3)
    found = find_disagreement(images, swapped(texts), aligned=False)
    assert found.method == "fitted"
    assert precision(found) >= 0.95
    assert found.explained is not None
    assert found.explained > 0.6


def test_a_weak_map_finds_more_than_chance_and_says_how_little_that_is() -> None:
    images, texts = paired(N, noise=1.2)
    found = find_disagreement(images, swapped(texts), aligned=False)
    assert found.method == "fitted"
    assert 0.05 <= found.power <= 0.9
    assert precision(found, 50) >= 5 * N_WRONG / N
    assert found.wrong is not None
    assert found.scores is not None
    cut = np.sort(found.scores)[N // 100 - 1]
    assert found.power == pytest.approx(float((found.wrong <= cut).mean()))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_told_of_pictures_and_texts_that_have_nothing_in_common(aligned: bool, seed: int) -> None:
    found = find_disagreement(unrelated(N, seed=seed), unrelated(N, seed=seed + 10), aligned=aligned)
    assert found.method == "none"
    assert "does not tell right pairs from wrong ones" in found.why
    assert found.n_outliers == 0


def test_more_dimensions_than_items_do_not_make_a_map_that_only_remembers() -> None:
    found = find_disagreement(unrelated(240, 300), unrelated(240, 64, seed=5), aligned=False)
    assert found.method == "none"
    assert abs(found.own_wins - 0.5) < 0.1


def test_too_few_items_are_not_judged() -> None:
    images, texts = paired(FEWEST_ITEMS - 1, noise=0.1)
    found = find_disagreement(images, texts, aligned=False)
    assert found.method == "none"
    assert "are needed" in found.why


def test_vectors_of_16_bits_and_the_same_seed_give_the_same_scores() -> None:
    images, texts = (each.astype(np.float16) for each in paired(400, noise=0.3))
    one, other = (find_disagreement(images, texts, aligned=False, seed=3) for _ in range(2))
    assert one.scores is not None
    assert other.scores is not None
    assert (one.scores == other.scores).all()
