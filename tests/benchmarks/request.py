"""CPU time of one `recommend()` over arrays in memory: `make bench-request ARGS="--items 10000"`.

The query tower is a mean, so the figure is that of the recommender's own code: without the tower, HTTP and a store.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime

import numpy as np

from recsys.catalog import CatalogItem
from recsys.dataset import Modality
from recsys.features.transitions import Neighbours
from recsys.live import CatalogView, view_of
from recsys.recommender import RecommenderConfig, recommend
from recsys.storage.memory_store import MemoryStore
from recsys.trace import StageTrace
from recsys.types import HistoryItem, Query
from tests.worlds.in_memory import Floats, MeanOfHistory, in_memory_release, space

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64, help="width of item and content vectors")
    parser.add_argument("--history", type=int, default=100, help="interactions of each user")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    catalog, store = world(options.items, options.dim), MemoryStore()
    rng = np.random.default_rng(1)
    for user in range(100):
        rows = rng.choice(options.items, options.history, replace=False)
        store.import_histories([(f"user {user}", [HistoryItem(f"item {row}", "view", 1, int(row)) for row in rows])])
    stages = measure(catalog, store, options.requests // 10, options.explain)[1]  # warms up
    cpu_us, stages = measure(catalog, store, options.requests, options.explain)
    print(f"{options.items} items, {options.dim} wide, history of {options.history}: {cpu_us:.0f} µs CPU a request")
    for stage in stages[0]:
        mean_us = 1e3 * np.mean(
            [each.duration_ms for stages_of in stages for each in stages_of if each.name == stage.name]
        )
        print(f"  {stage.name:<10}{mean_us:7.0f} µs  {stage.n_in:>6} → {stage.n_out}")


def measure(
    catalog: CatalogView, store: MemoryStore, n_requests: int, explain: bool
) -> tuple[float, list[tuple[StageTrace, ...]]]:
    """CPU microseconds of one request, and the stages of each."""
    config, stages = RecommenderConfig(), []
    started_ns = time.process_time_ns()
    for number in range(n_requests):
        query = Query(f"bench {number}", NOW, user_id=f"user {number % 100}", explain=explain)
        stages.append(recommend(query, catalog, store, config).trace)
    return (time.process_time_ns() - started_ns) / 1e3 / max(n_requests, 1), stages


def world(n_items: int, dim: int, n_neighbours: int = 200) -> CatalogView:
    rng = np.random.default_rng(0)
    neighbours = rng.integers(0, n_items, (n_items, n_neighbours), dtype=np.int32)
    weights = -np.sort(-rng.random((n_items, n_neighbours), dtype=np.float32), axis=1)
    content = tuple(
        Modality(name, space(name, dim).space_id, unit(n_items, dim, rng), np.ones(n_items, np.bool_))
        for name in ("image", "text")
    )
    release = in_memory_release(
        [CatalogItem(f"item {row}", title=f"Title {row}") for row in range(n_items)],
        unit(n_items, dim, rng),
        counts=rng.integers(0, 1000, n_items),
        neighbours=Neighbours(neighbours, weights),
        modalities=content,
        query_encoder=MeanOfHistory(dim),
        max_history=200,
    )
    return view_of(release)


def unit(n: int, dim: int, rng: np.random.Generator) -> Floats:
    vectors = rng.standard_normal((n, dim), dtype=np.float32)
    lengths: Floats = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


if __name__ == "__main__":
    main()
