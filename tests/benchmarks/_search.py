"""The planned index beside FAISS's exact one: one thread, one query at a time, k = 100, vectors of real texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import faiss
import numpy as np

from recsys.index.config import IndexConfig
from recsys.index.exact import ExactIndex
from recsys.index.planner import build_index, plan_index
from recsys.index.quality import SELECTIVITIES, measure_index, random_filters
from tests.benchmarks._pictures import SHARED
from tests.benchmarks._table import Figure, interleaved
from tests.benchmarks.ann_vectors import real_vectors

N_ITEMS, N_QUERIES, DIM, K = 100_000, 1000, 128, 100
TIMED_QUERIES = 200


def figures(rounds: int) -> Iterator[Figure]:
    """Recall and time without a filter, recall and the shortest answer under filters."""
    if not (SHARED / "ml1m").is_dir():
        yield Figure("search: recall@100 of the planned index", None, ">= 0.99", "the optional test data is absent")
        return
    everything = real_vectors(N_ITEMS + N_QUERIES, DIM, shared_data=SHARED)
    vectors, queries = everything[:N_ITEMS].copy(), everything[N_ITEMS:].copy()
    factory = plan_index(N_ITEMS, DIM).factory
    index = build_index(vectors, IndexConfig())
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    faiss.omp_set_num_threads(1)
    measured = measure_index(index, ExactIndex(vectors), queries, k=K, seed=0)
    note = f"{factory}, {getattr(index, 'refine_factor', 1)} candidates a neighbour; {N_QUERIES} queries left out of it"
    yield Figure(f"search: recall@100 over {N_ITEMS:,} x {DIM} vectors of real texts", measured.recall, ">= 0.99", note)
    one_by_one = [queries[place : place + 1] for place in range(TIMED_QUERIES)]

    def ours() -> None:
        for query in one_by_one:
            index.search(query, K)

    def exact() -> None:
        faiss.omp_set_num_threads(1)
        for query in one_by_one:
            flat.search(query, K)

    ratio, note = interleaved(ours, exact, rounds=rounds)
    yield Figure("search: time against IndexFlatIP, one thread", 1 / ratio, "<= 0.15", f"times faster: {note}")
    for selectivity in SELECTIVITIES:
        (filtered,) = (each for each in measured.filtered if each.selectivity == selectivity)
        took = _milliseconds(index.search, one_by_one[:50], random_filters(N_ITEMS, selectivity, 1, seed=1)[0])
        note = f"shortest answer {filtered.shortest_share:.0%} of what there was; {took:.2f} ms a query"
        yield Figure(f"search: recall@100, filter lets {selectivity:.2%} pass", filtered.recall, ">= 0.98", note)
    short = min(each.shortest_share for each in measured.filtered)
    yield Figure("search: shortest answer under a filter, share of what there was", short, ">= 1")


def _milliseconds(search: Callable[..., object], queries: list[np.ndarray], allowed: object) -> float:
    from time import perf_counter

    started = perf_counter()
    for query in queries:
        search(query, K, allowed)
    return 1e3 * (perf_counter() - started) / len(queries)
