"""The benchmark's items and users, drawn from seeds: clusters of like items, popular ones and rare ones, tastes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.catalog import CatalogItem
from tests.benchmarks._serving.world import WorldSize, item_id

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

FIRST_YEAR, LAST_YEAR = 1990, 2025
COLOURS = ("red", "green", "blue", "black", "white", "yellow", "brown", "grey")
N_CATEGORIES = 24


@dataclass(frozen=True)
class Catalogue:
    """The synthetic items: cluster int64 [N], interactions int64 [N], content float16, and what people read."""

    clusters: Rows
    counts: Rows
    text: NDArray[np.float16]
    image: NDArray[np.float16]
    prices: Floats
    years: Rows
    colours: Rows
    items: list[CatalogItem]


def make_catalogue(size: WorldSize, rng: np.random.Generator) -> Catalogue:
    shares = rng.dirichlet(np.full(size.n_clusters, 4.0))
    clusters = np.sort(rng.choice(size.n_clusters, size.n_items, p=shares))[rng.permutation(size.n_items)]
    counts = (2e6 / size.n_items * 20 / np.arange(1, size.n_items + 1) ** 0.8).astype(np.int64) + 1
    counts = counts[rng.permutation(size.n_items)]
    prices = np.round(rng.lognormal(3, 1, size.n_items), 2).astype(np.float32)
    years = rng.integers(FIRST_YEAR, LAST_YEAR + 1, size.n_items)
    colours = rng.integers(0, len(COLOURS), size.n_items)
    second = rng.integers(0, N_CATEGORIES, size.n_items)
    items = [
        CatalogItem(
            item_id(row),
            title=f"{COLOURS[colours[row]].title()} thing {row} of kind {clusters[row]}",
            categories=tuple(dict.fromkeys((f"kind {clusters[row] % N_CATEGORIES}", f"kind {second[row]}"))),
            price=float(prices[row]),
            attributes={"year": int(years[row]), "colour": COLOURS[colours[row]]},
        )
        for row in range(size.n_items)
    ]
    text, image = (clustered(clusters, width, rng) for width in (size.text_dim, size.image_dim))
    return Catalogue(clusters, counts, text, image, prices, years, colours, items)


def clustered(clusters: Rows, dim: int, rng: np.random.Generator) -> NDArray[np.float16]:
    """Unit vectors float16 [N, dim] whose mean cosine within a cluster is about .6."""
    centres = unit(rng.standard_normal((int(clusters.max()) + 1, dim), dtype=np.float32))
    spread = unit(rng.standard_normal((len(clusters), dim), dtype=np.float32))
    return unit(centres[clusters] + np.float32(0.8) * spread).astype(np.float16)


def unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def make_histories(
    size: WorldSize, catalogue: Catalogue, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Each user takes from three clusters, mostly what is popular there."""
    members = [np.flatnonzero(catalogue.clusters == cluster) for cluster in range(size.n_clusters)]
    chances = [catalogue.counts[rows] ** 0.5 / (catalogue.counts[rows] ** 0.5).sum() for rows in members]
    histories = np.empty((size.n_users, size.history), np.int32)
    share = -(-size.history // 3)
    for user in range(size.n_users):
        liked = rng.choice(size.n_clusters, 3, replace=False)
        taken = [rng.choice(members[each], share, replace=False, p=chances[each]) for each in liked]
        histories[user] = rng.permutation(np.concatenate(taken)[: size.history])
    types = rng.choice([1, 2, 3], histories.shape, p=[0.8, 0.12, 0.08]).astype(np.uint8)
    return histories, types


def make_neighbours(
    size: WorldSize, clusters: Rows, rng: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """int32 and float32 [N, K]: half of the cluster, half from anywhere; by falling weight, each row once."""
    n, k = size.n_items, size.n_neighbours
    order = np.argsort(clusters, kind="stable")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    near = order[(place[:, None] + rng.integers(1, n // size.n_clusters, (1, k // 2))) % n]
    rows = np.sort(np.concatenate([near, rng.integers(0, n, (n, k - k // 2))], axis=1), axis=1).astype(np.int32)
    weights = rng.exponential(0.02, (n, k)).astype(np.float32)
    twice = np.zeros((n, k), np.bool_)
    twice[:, 1:] = rows[:, 1:] == rows[:, :-1]
    twice |= rows == np.arange(n, dtype=np.int32)[:, None]
    rows[twice], weights[twice] = -1, 0
    by_weight = np.argsort(-weights, axis=1, kind="stable")
    return np.take_along_axis(rows, by_weight, axis=1), np.take_along_axis(weights, by_weight, axis=1)
