"""The constants of `recsys/index/costs.py`, measured again: `make bench-ann-costs`. CPU time of one thread.

Run it on an otherwise idle machine; what is measured stands beside what the file says.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import faiss
import numpy as np

from recsys.index import costs
from recsys.index.approximate import ApproximateIndex
from recsys.index.codes import Kind, put_in_order, search_codes
from recsys.index.exact import ExactIndex
from recsys.index.products import products
from tests.benchmarks.ann_vectors import synthetic_vectors

N_ITEMS, DIM, N_QUERIES, REPEATS = 100_000, 128, 50, 5


def main() -> None:
    faiss.omp_set_num_threads(1)
    vectors = synthetic_vectors(N_ITEMS + N_QUERIES, DIM)
    vectors, queries = vectors[:N_ITEMS].copy(), vectors[N_ITEMS:].copy()
    index = ApproximateIndex.build(vectors, f"W{DIM},PQ{DIM // 2}x4fs", threads=1)
    kind = Kind.of(index.codes)
    rows = np.sort(np.random.default_rng(0).choice(N_ITEMS, 10_000, replace=False))

    def codes(n_fetched: int) -> Callable[[np.ndarray], object]:
        return lambda query: search_codes(index.codes, kind, query, n_fetched, n_probes=1, n_threads=1)

    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    best, few, many = (_ns(codes(n), queries) for n in (1, 400, 4000))
    fetched = (many - few) / 3600 + (_refine_ns(vectors, queries, 4000) - _refine_ns(vectors, queries, 400)) / 3600
    within = _ns(lambda query: index.search(query, 100), queries)
    centres = faiss.IndexFlatIP(DIM)
    centres.add(synthetic_vectors(4096, DIM, seed=1))
    sample = vectors[:20_000]
    encoding = ApproximateIndex.build(sample, f"W{DIM},PQ{DIM // 2}x4fs", threads=1).codes
    train = _once_ns(lambda: ApproximateIndex.build(vectors[:65_536], f"W{DIM},PQ{DIM // 2}x4fs", threads=1))
    encode = _once_ns(lambda: encoding.add(vectors)) / (N_ITEMS * DIM)
    measured = {
        "PASSED_NS_A_FLOAT": _ns(lambda query: flat.search(query, 100), queries) / (N_ITEMS * DIM),
        "GATHERED_NS_A_FLOAT": _ns(lambda query: products(vectors, rows, query), queries) / (len(rows) * DIM),
        "SWEPT_NS_A_CODE": best / (N_ITEMS * DIM / 2),
        "FETCHED_NS": fetched - costs.GATHERED_NS_A_FLOAT * DIM,
        "CALL_NS": _ns(lambda query: ExactIndex(vectors[:10]).search(query, 10), queries),
        "CODED_CALL_NS": within - costs.coded_ns(N_ITEMS, DIM / 2, 400, DIM) + costs.CODED_CALL_NS,
        "MULTIPLIED_NS": _once_ns(lambda: centres.search(sample, 1)) / (len(sample) * centres.ntotal * DIM),
        "ENCODED_NS_A_FLOAT": encode,
        "CODES_TRAINED_NS_A_FLOAT": (train - encode * 65_536 * DIM) / (65_536 * DIM),
    }
    for name, value in measured.items():
        print(f"{name:<26}{value:12.4g}   in the file {getattr(costs, name):g}")


def _ns(search: Callable[[np.ndarray], object], queries: np.ndarray) -> float:
    """CPU nanoseconds of one query, the least of some rounds."""
    return min(
        _once_ns(lambda: [search(queries[place : place + 1]) for place in range(len(queries))]) / len(queries)
        for _ in range(REPEATS)
    )


def _refine_ns(vectors: np.ndarray, queries: np.ndarray, n: int) -> float:
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), n, replace=False))
    return _ns(lambda query: put_in_order(vectors, query, rows[None], 100), queries)


def _once_ns(work: Callable[[], object]) -> float:
    started = time.thread_time_ns()
    work()
    return float(time.thread_time_ns() - started)


if __name__ == "__main__":
    main()
