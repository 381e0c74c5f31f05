"""Compact content vectors choose the slates that whole ones choose."""

from __future__ import annotations

import numpy as np
import pytest

from recsys.dataset import Modality
from recsys.features.diversity import UNIT, WIDTH, Diversity, compact, diversity_of, fit_projection, side_by_side
from recsys.reranking import mmr

Floats = np.ndarray


def unit(vectors: Floats) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(n: int, n_clusters: int, widths: dict[str, int], seed: int = 0) -> tuple[Modality, ...]:
    """Items of clusters, a little noise each, in every modality; a tenth lacks each modality."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, n_clusters, n)
    modalities = []
    for name, width in widths.items():
        centres = rng.standard_normal((n_clusters, width))
        vectors = unit(centres[cluster] + 0.4 * rng.standard_normal((n, width)))
        modalities.append(Modality(name, name, vectors, rng.random(n) < 0.9))
    return tuple(modalities)


def whole(modalities: tuple[Modality, ...]) -> Floats:
    n = len(modalities[0].vectors)
    return side_by_side([(each.vectors, each.present) for each in modalities], n)[0]


@pytest.fixture(scope="module")
def shop() -> tuple[tuple[Modality, ...], Diversity]:
    modalities = clustered(3000, 120, {"image": 300, "text": 84})
    return modalities, diversity_of(modalities, 3000)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.6])
def test_slates_under_compact_vectors_are_those_under_whole_ones(
    shop: tuple[tuple[Modality, ...], Diversity], weight: float
) -> None:
    modalities, diversity = shop
    content, rng, overlaps = whole(modalities), np.random.default_rng(1), []
    for _ in range(50):
        rows = rng.choice(3000, 200, replace=False)
        value = rng.standard_normal(200).astype(np.float32)
        present = np.ones(200, np.bool_)
        small = diversity.vectors[rows].astype(np.float32) / UNIT
        slates = [set(mmr(value, vectors, present, 20, weight).tolist()) for vectors in (content[rows], small)]
        overlaps.append(len(slates[0] & slates[1]) / 20)
    assert np.mean(overlaps) >= 0.9


def test_inner_products_tell_alike_from_unlike(shop: tuple[tuple[Modality, ...], Diversity]) -> None:
    modalities, diversity = shop
    content, small = whole(modalities)[:500], diversity.vectors[:500].astype(np.float32) / UNIT
    both = np.triu_indices(500, 1)
    exact, short = (content @ content.T)[both], (small @ small.T)[both]
    assert np.corrcoef(exact, short)[0, 1] > 0.9


def test_rows_are_of_length_1_or_nothing(shop: tuple[tuple[Modality, ...], Diversity]) -> None:
    modalities, diversity = shop
    assert (diversity.vectors.dtype, diversity.vectors.shape) == (np.int8, (3000, WIDTH))
    has_content = modalities[0].present | modalities[1].present
    lengths = np.linalg.norm(diversity.vectors.astype(np.float32) / UNIT, axis=1)
    assert np.allclose(lengths[has_content], 1, atol=0.034)
    assert (diversity.vectors[~has_content] == 0).all()
    assert (~has_content).any()


def test_columns_of_the_projection_are_orthonormal_and_the_first_is_the_leading_one() -> None:
    content = whole(clustered(400, 20, {"image": 100}))
    projection = fit_projection(content, 8)
    assert np.allclose(projection.T @ projection, np.eye(8), atol=1e-3)
    _, _, exact = np.linalg.svd(content.astype(np.float64), full_matrices=False)
    assert abs(float(projection[:, 0] @ exact[0])) > 0.999
    energy = np.linalg.norm(content @ projection, axis=0)
    assert (np.diff(energy) <= 1e-3).all()


def test_the_same_content_gives_the_same_bytes_also_from_float16() -> None:
    modalities = clustered(500, 20, {"image": 100, "text": 30})
    kept = tuple(
        Modality(each.name, each.space_id, each.vectors.astype(np.float16).astype(np.float32), each.present)
        for each in modalities
    )
    first, again, as_kept = (diversity_of(each, 500) for each in (modalities, modalities, kept))
    assert first.vectors.tobytes() == again.vectors.tobytes() == as_kept.vectors.tobytes()
    assert first.projection.tobytes() == again.projection.tobytes() == as_kept.projection.tobytes()


def test_an_item_that_comes_later_gets_the_vector_it_would_have_had() -> None:
    modalities = clustered(300, 10, {"image": 90})
    diversity = diversity_of(modalities, 300)
    content = modalities[0].vectors.astype(np.float16).astype(np.float32)
    parts = [(content[5:7], modalities[0].present[5:7])]
    assert np.array_equal(diversity.of(side_by_side(parts, 2)[0]), diversity.vectors[5:7])


def test_content_that_is_narrow_already_is_only_rounded() -> None:
    content = unit(np.random.default_rng(0).standard_normal((10, 6)))
    assert np.array_equal(fit_projection(content), np.eye(6, 64, dtype=np.float32))
    small = compact(content, fit_projection(content)).astype(np.float32) / UNIT
    assert np.allclose(small[:, :6], content, atol=0.5 / UNIT + 1e-6)


NO_TEXTS = Modality("text", "text", np.empty((0, 200), np.float32), np.empty(0, np.bool_))


@pytest.mark.parametrize("modalities", [(), (NO_TEXTS,)])
def test_an_empty_catalogue_and_one_without_content_have_no_content(modalities: tuple[Modality, ...]) -> None:
    diversity = diversity_of(modalities, 0)
    assert len(diversity.vectors) == 0
    assert diversity.vectors.shape[1] == diversity.projection.shape[1]
    assert diversity_of((), 3).vectors.shape == (3, 64)


def test_fewer_items_than_the_width_keep_their_cosines() -> None:
    content = unit(np.random.default_rng(0).standard_normal((5, 200)))
    small = compact(content, fit_projection(content)).astype(np.float32) / UNIT
    assert np.allclose(small @ small.T, content @ content.T, atol=0.03)
