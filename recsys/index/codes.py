"""The FAISS side: training codes on a sample, filling them in chunks, and searching them with parameters of a call.

Letters: N items, D width, B queries.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from recsys.errors import EnvironmentProblem
from recsys.index.weighted import transform, weighted_axes
from recsys.ports import AllowedRows

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]
OnProgress = Callable[[int, int], None]

TRAINING_VECTORS_A_CELL = 64
"""A quarter of FAISS's own default: cells train four times faster, with the same recall."""

FEWEST_TRAINING_VECTORS = 65_536
"""Codes of 8 bits want 256 vectors for each of their 256 values."""

ADDED_BYTES = 32 * 2**20
"""Vectors handed to FAISS at once: what a build holds beside the codes."""

WEIGHTED = re.compile(r"W(\d+),(.+)")
"""Factory "W<width>,<FAISS factory>": codes on the axes of `recsys.index.weighted`."""

CAGRA = "CAGRA"
"""Factory "CAGRA<degree>": a graph built on a GPU by cuVS, searched on the CPU as HNSW's lowest level."""


def build_codes(
    vectors: Vectors, factory: str, *, seed: int, threads: int = 0, on_progress: OnProgress | None = None
) -> Any:
    """A trained and filled FAISS index over float32 [N, D], which may be memory-mapped: the same vectors, factory and
    seed give the same bytes.

    Trained on one thread, because the order of floating-point sums depends on their number, and on a seeded sample;
    filled on `threads` (0 = all cores), each vector by itself. Where FAISS sees a GPU, it finds the centres of the
    cells (other bytes than a CPU's).

    Raises:
        EnvironmentProblem: the factory names CAGRA and this FAISS or machine has none.
    """
    n_items = len(vectors)
    if factory.startswith(CAGRA):
        return _build_graph_on_gpu(vectors, int(factory.removeprefix(CAGRA) or 64))
    engine: Any = faiss
    engine.omp_set_num_threads(1)
    weighted = WEIGHTED.fullmatch(factory)
    width = int(weighted[1]) if weighted else vectors.shape[1]
    codes = engine.index_factory(width, weighted[2] if weighted else factory, engine.METRIC_INNER_PRODUCT)
    on_gpu = _prepare(codes, seed)
    rows = training_rows(n_items, Kind.of(codes).n_cells, seed)
    sample = np.ascontiguousarray(vectors if len(rows) == n_items else vectors[rows], dtype=np.float32)
    of_items: Any = None
    if weighted:
        items, queries = weighted_axes(sample, width)
        of_items, of_queries = transform(items), transform(queries)
    codes.train(sample if of_items is None else of_items.apply(sample))
    del on_gpu, sample
    engine.omp_set_num_threads(threads or os.cpu_count() or 1)
    step = max(1, ADDED_BYTES // (4 * vectors.shape[1]))
    for start in range(0, n_items, step):
        chunk = np.ascontiguousarray(vectors[start : start + step], dtype=np.float32)
        codes.add(chunk if of_items is None else of_items.apply(chunk))
        if on_progress is not None:
            on_progress(min(start + step, n_items), n_items)
    engine.omp_set_num_threads(1)
    return engine.IndexPreTransform(of_queries, codes) if weighted else codes


def training_rows(n_items: int, cells: int, seed: int) -> Rows:
    """int64, ascending: the sample that codes and cells are trained on."""
    n_sampled = min(n_items, max(FEWEST_TRAINING_VECTORS, TRAINING_VECTORS_A_CELL * cells))
    if n_sampled == n_items:
        return np.arange(n_items, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n_items, n_sampled, replace=False, shuffle=False))


@dataclass(frozen=True, slots=True)
class Kind:
    """What a FAISS index is, looked up once: asking FAISS costs a tenth of a search.

    Attributes:
        way: "cells" are searched in part, and FAISS can leave rows out; a "sweep" passes over all codes, and refuses
            a filter where they are fast-scan codes; a "graph" is walked, and loses its recall under a filter.
        is_wrapped: a rotation or the like stands before it.
        n_cells: 0 where there are none.
        n_codes: 4-bit codes that are read for each item passed (by size where they are of another kind); 0 for a graph.
    """

    way: Literal["cells", "sweep", "graph"]
    is_wrapped: bool
    n_cells: int
    n_codes: float

    @staticmethod
    def of(codes: Any) -> Kind:
        engine: Any = faiss
        inner = codes
        while isinstance(inner, engine.IndexPreTransform):
            inner = engine.downcast_index(inner.index)
        if isinstance(inner, engine.IndexHNSW):
            return Kind("graph", inner is not codes, 0, 0.0)
        n_codes = 2.0 * inner.code_size
        if isinstance(inner, engine.IndexIVF):
            return Kind("cells", inner is not codes, int(inner.nlist), n_codes)
        return Kind("sweep", inner is not codes, 0, n_codes)


def search_codes(
    codes: Any,
    kind: Kind,
    queries: Vectors,
    n_fetched: int,
    *,
    n_probes: int,
    n_threads: int,
    allowed: AllowedRows | None = None,
) -> Rows:
    """int64 [B, n_fetched], best first by the codes, -1 where nothing was left; `allowed` for cells only."""
    engine: Any = faiss
    # The number of threads belongs to the calling thread, and a server has many: set it at every call (0.1 µs).
    engine.omp_set_num_threads(n_threads)
    # Given with each search instead of set on the index, which threads share. The selector reads the bits where they
    # are: both must live until the search is over.
    bits = None if allowed is None else allowed.bits
    parameters: Any = None
    if kind.way == "cells":
        selector = None if bits is None else engine.IDSelectorBitmap(bits)
        parameters = engine.SearchParametersIVF(nprobe=n_probes, sel=selector)
    elif kind.way == "graph":
        parameters = engine.SearchParametersHNSW(efSearch=n_fetched)
    if parameters is not None and kind.is_wrapped:
        parameters = engine.SearchParametersPreTransform(index_params=parameters)
    found: Rows = codes.search(queries, n_fetched, params=parameters)[1]
    return found


def put_in_order(vectors: Vectors, queries: Vectors, candidates: Rows, k: int) -> tuple[Rows, Vectors]:
    """The k best of each query's candidates by the true inner product: int64 [B, k] and float32 [B, k].

    In FAISS, for a gather in numpy after the sweep costs a quarter of the whole search.

    Args:
        vectors: float32 [N, D], contiguous; it may be mapped.
        queries: float32 [B, D], contiguous.
        candidates: int64 [B, C], distinct in a line, -1 after the last one; at least k of them in each line.
    """
    engine: Any = faiss
    candidates = np.ascontiguousarray(candidates)
    rows = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k), dtype=np.float32)
    pointer = engine.swig_ptr
    engine.knn_inner_products_by_idx(
        pointer(queries),
        pointer(vectors),
        pointer(candidates),
        vectors.shape[1],
        len(queries),
        len(vectors),
        candidates.shape[1],
        k,
        pointer(similarities),
        pointer(rows),
        candidates.shape[1],  # the default, -1, takes N for the distance from one query's candidates to the next
    )
    return rows, similarities


def _prepare(codes: Any, seed: int) -> Any:
    """Seed what FAISS draws at random (a rotation is always the same one). Returns the index of a GPU that will find
    the cells' centres, to be kept alive until they are trained; None where FAISS sees no GPU."""
    engine: Any = faiss
    while isinstance(codes, engine.IndexPreTransform):
        codes = engine.downcast_index(codes.index)
    if hasattr(codes, "pq"):
        codes.pq.cp.seed = seed
    if not isinstance(codes, engine.IndexIVF):
        return None
    codes.cp.seed = seed
    codes.cp.max_points_per_centroid = TRAINING_VECTORS_A_CELL
    if not hasattr(engine, "index_cpu_to_all_gpus") or engine.get_num_gpus() == 0:
        return None
    codes.clustering_index = engine.index_cpu_to_all_gpus(engine.IndexFlatIP(codes.d))
    return codes.clustering_index


def _build_graph_on_gpu(vectors: Vectors, degree: int) -> Any:
    """CAGRA (Ootomo et al. 2023), built by cuVS and copied to the CPU. Its bytes are not the same on every run."""
    engine: Any = faiss
    if not hasattr(engine, "GpuIndexCagra") or engine.get_num_gpus() == 0:
        raise EnvironmentProblem(
            'the index factory "CAGRA" needs a GPU and a faiss with cuVS (conda: faiss-gpu-cuvs); take "auto" here'
        )
    config = engine.GpuIndexCagraConfig()
    config.graph_degree, config.intermediate_graph_degree = degree, 2 * degree
    on_gpu = engine.GpuIndexCagra(engine.StandardGpuResources(), vectors.shape[1], engine.METRIC_INNER_PRODUCT, config)
    on_gpu.train(np.ascontiguousarray(vectors, dtype=np.float32))
    on_cpu = engine.IndexHNSWCagra()
    on_gpu.copyTo(on_cpu)
    on_cpu.base_level_only = True
    return on_cpu
