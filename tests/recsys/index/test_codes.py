"""Codes are trained on a sample and filled in chunks: the same bytes whatever the chunks, the threads and the file."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pytest

from recsys.errors import EnvironmentProblem
from recsys.index import codes
from recsys.index.approximate import ApproximateIndex
from recsys.index.codes import Kind, build_codes, put_in_order, training_rows

VECTORS = np.random.default_rng(0).standard_normal((5000, 16)).astype(np.float32)
FACTORIES = ["W16,PQ8x4fs", "RR16,PQ8x4fs", "RR16,IVF16,PQ8x4fs", "IVF16,SQ8"]


def bytes_of(index: Any) -> bytes:
    return bytes(faiss.serialize_index(index).tobytes())


@pytest.mark.parametrize("factory", FACTORIES)
def test_neither_threads_nor_chunks_nor_a_mapped_file_change_a_byte(factory, tmp_path, monkeypatch):
    whole = bytes_of(build_codes(VECTORS, factory, seed=1, threads=1))
    assert bytes_of(build_codes(VECTORS, factory, seed=1, threads=3)) == whole
    monkeypatch.setattr(codes, "ADDED_BYTES", 700 * 64)  # 700 vectors at once
    np.save(tmp_path / "vectors.npy", VECTORS)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert bytes_of(build_codes(mapped, factory, seed=1, threads=2)) == whole


def test_progress_counts_up_to_all_of_them(monkeypatch):
    monkeypatch.setattr(codes, "ADDED_BYTES", 2000 * 64)
    told: list[tuple[int, int]] = []
    build_codes(VECTORS, "PQ8x4fs", seed=1, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(2000, 5000), (4000, 5000), (5000, 5000)]


def test_the_training_sample_is_seeded_and_grows_with_the_cells():
    assert training_rows(1000, 16, seed=1).tolist() == list(range(1000))
    few = training_rows(10**6, 0, seed=1)
    assert len(few) == len(set(few.tolist())) == 65_536
    assert (np.diff(few) > 0).all()
    assert training_rows(10**6, 0, seed=1).tolist() == few.tolist() != training_rows(10**6, 0, seed=2).tolist()
    assert len(training_rows(10**6, 4096, seed=1)) == 64 * 4096


def test_codes_trained_on_a_sample_of_them_find_nearly_as_much(monkeypatch):
    monkeypatch.setattr(codes, "FEWEST_TRAINING_VECTORS", 1000)
    sampled = ApproximateIndex.build(VECTORS, "RR16,PQ8x4fs", threads=1)
    monkeypatch.undo()
    whole = ApproximateIndex.build(VECTORS, "RR16,PQ8x4fs", threads=1)
    assert bytes_of(sampled.codes) != bytes_of(whole.codes)
    exact = np.argsort(-(VECTORS[:50] @ VECTORS.T), axis=1)[:, :20]
    for index in (sampled, whole):
        found = index.search(VECTORS[:50], 20)[0]
        assert np.mean([len(np.intersect1d(one, other)) / 20 for one, other in zip(found, exact, strict=True)]) > 0.9


def test_a_kind_is_told_through_what_stands_before_it():
    kinds = {
        name: Kind.of(faiss.index_factory(16, name, faiss.METRIC_INNER_PRODUCT))
        for name in ("PQ8x4fs", "RR16,PQ8x4fs", "RR16,IVF4,PQ8x4fs", "HNSW8")
    }
    # Eight codes of four bits are four bytes.
    assert kinds["PQ8x4fs"] == Kind("sweep", False, 0, 8.0)
    assert kinds["RR16,PQ8x4fs"] == Kind("sweep", True, 0, 8.0)
    assert kinds["RR16,IVF4,PQ8x4fs"] == Kind("cells", True, 4, 8.0)
    assert kinds["HNSW8"] == Kind("graph", False, 0, 0.0)


def test_candidates_are_put_in_order_line_by_line():
    candidates = np.array([[5, 1, 9, -1], [2, 3, 4, 0]])
    rows, similarities = put_in_order(VECTORS, VECTORS[:2].copy(), candidates, 3)
    for place, line in enumerate(([5, 1, 9], [2, 3, 4, 0])):
        products = VECTORS[line] @ VECTORS[place]
        order = np.argsort(-products)[:3]
        assert rows[place].tolist() == np.array(line)[order].tolist()
        np.testing.assert_allclose(similarities[place], products[order], rtol=1e-5)


@pytest.mark.skipif(hasattr(faiss, "GpuIndexCagra"), reason="this faiss has CAGRA")
def test_a_graph_built_on_a_gpu_is_refused_in_words_where_there_is_none():
    with pytest.raises(EnvironmentProblem, match="needs a GPU"):
        build_codes(VECTORS, "CAGRA32", seed=1)


def test_an_index_given_for_the_clustering_trains_the_cells(monkeypatch):
    """What a GPU does in training, with an index of the CPU in its place: other centres are not made by it."""
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    asked: list[int] = []

    def stands_in(index: Any) -> Any:
        asked.append(index.d)
        return index

    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", stands_in, raising=False)
    index = ApproximateIndex.build(VECTORS, "RR16,IVF16,PQ8x4fs", n_probes=16, threads=1)
    assert asked == [16]
    assert index.search(VECTORS[:5], 1)[0][:, 0].tolist() == [
        int(np.argmax(VECTORS @ VECTORS[place])) for place in range(5)
    ]
