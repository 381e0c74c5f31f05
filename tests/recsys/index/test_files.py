from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.errors import CorruptArtifact, MissingArtifact
from recsys.index.approximate import ApproximateIndex
from recsys.index.config import IndexConfig
from recsys.index.exact import ExactIndex
from recsys.index.files import open_index, write_index, write_vectors
from recsys.index.planner import build_index

VECTORS = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
FACTORIES = ["PQ8x4fs", "W16,PQ8x4fs", "IVF16,PQ8x4fs", "RR16,IVF16,PQ8x4fs", "IVF16,SQ8", "HNSW16"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_same_vectors_give_the_same_bytes(tmp_path, factory):
    config = IndexConfig(kind="approximate", factory=factory)
    for name in ("a", "b"):
        write_index(build_index(VECTORS.copy(), config), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_seed_trains_other_codes(tmp_path):
    for seed in (1, 2):
        config = IndexConfig(kind="approximate", factory="IVF16,PQ8x4fs", seed=seed)
        write_index(build_index(VECTORS, config), tmp_path / str(seed))
    assert (tmp_path / "1").read_bytes() != (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("factory", FACTORIES)
def test_it_answers_the_same_after_a_round_trip(tmp_path, factory):
    built = ApproximateIndex.build(VECTORS, factory, refine_factor=2, n_probes=4)
    write_index(built, tmp_path / "index")
    opened = open_index(tmp_path / "index", VECTORS)
    assert isinstance(opened, ApproximateIndex)
    assert (opened.refine_factor, opened.n_probes) == (2, 4)
    assert opened.search(VECTORS[:5], 20)[0].tolist() == built.search(VECTORS[:5], 20)[0].tolist()


def test_an_exact_index_needs_no_more_than_the_item_vectors(tmp_path):
    write_index(ExactIndex(VECTORS), tmp_path / "index")
    assert isinstance(open_index(tmp_path / "index", VECTORS), ExactIndex)
    assert (tmp_path / "index").stat().st_size < 400


def test_an_empty_index_survives_the_round_trip(tmp_path):
    empty = np.empty((0, 16), np.float32)
    write_index(build_index(empty), tmp_path / "index")
    assert open_index(tmp_path / "index", empty).n_items == 0


def test_vectors_of_another_model_are_refused(tmp_path):
    write_index(ExactIndex(VECTORS), tmp_path / "index")
    for others in (VECTORS[:-1], VECTORS + np.float32(1e-3), VECTORS[::-1]):
        with pytest.raises(CorruptArtifact, match="other item vectors"):
            open_index(tmp_path / "index", others)


def test_every_changed_byte_of_the_codes_is_noticed_before_faiss_sees_it(tmp_path):
    write_index(ApproximateIndex.build(VECTORS, "PQ8x4fs"), tmp_path / "index")
    written = (tmp_path / "index").read_bytes()
    end = written.rindex(b"\n", 0, -1)
    for place in np.random.default_rng(0).integers(0, end, 50):
        changed = bytearray(written)
        changed[place] ^= 0xFF
        (tmp_path / "index").write_bytes(changed)
        with pytest.raises(CorruptArtifact, match="has changed"):
            open_index(tmp_path / "index", VECTORS)


@pytest.mark.parametrize(
    "content", [b"", b"no index", b"[]\n", b'{"format": "recsys-index-1"}\n', b"\xff\xfe\n", b"3\n"]
)
def test_what_is_not_an_index_is_refused_in_words(tmp_path, content):
    (tmp_path / "index").write_bytes(content)
    with pytest.raises(CorruptArtifact, match="not an index"):
        open_index(tmp_path / "index", VECTORS)


def test_a_missing_file_names_the_job_that_makes_it(tmp_path):
    with pytest.raises(MissingArtifact, match="recsys release build"):
        open_index(tmp_path / "index", VECTORS)


def test_shards_become_one_file_that_an_index_is_built_from(tmp_path):
    shards = (VECTORS[start : start + 300] for start in range(0, 2000, 300))
    mapped = write_vectors(tmp_path / "vectors.npy", shards, n_items=2000, dim=16)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), VECTORS)
    config = IndexConfig(kind="approximate")
    for name, vectors in (("of shards", mapped), ("whole", VECTORS)):
        write_index(build_index(vectors, config), tmp_path / name)
    assert (tmp_path / "of shards").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize(
    "shards", [[VECTORS], [VECTORS[:5]], [VECTORS[:10, :3]], []], ids=["many", "few", "thin", "none"]
)
def test_shards_that_are_not_all_there_leave_no_file(tmp_path, shards):
    with pytest.raises(ValueError, match="shards"):
        write_vectors(tmp_path / "vectors.npy", shards, n_items=10, dim=16)
    assert not (tmp_path / "vectors.npy").exists()


MAPPED = """
import sys
from pathlib import Path
import numpy as np
from recsys.index.files import open_index

def anonymous_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

vectors = np.load(sys.argv[1], mmap_mode="r")
open_index(Path(sys.argv[2]), vectors).search(vectors[:1], 10)  # libraries take their own memory once
before = anonymous_kib()
opened = open_index(Path(sys.argv[3]), vectors)
opened.search(vectors[:1], 10)
print(anonymous_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(("factory", "most"), [("IVF16,SQ8", 0.2), ("RR64,PQ32x4fs", 1.2)])
def test_opening_maps_the_vectors_and_all_codes_but_the_packed_ones(tmp_path, factory, most):
    """40,000 x 64: vectors of 9.8 MiB. Codes of a byte, 2.4 MiB, stay in the file; .6 MiB are packed."""
    vectors = np.random.default_rng(0).standard_normal((40_000, 64)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    write_index(ApproximateIndex.build(vectors, factory, threads=1), tmp_path / "index")
    paths = [tmp_path / name for name in ("vectors.npy", "index", "index")]
    ran = subprocess.run([sys.executable, "-c", MAPPED, *paths], capture_output=True, text=True, check=True)
    codes_kib = (tmp_path / "index").stat().st_size / 1024
    assert int(ran.stdout) < most * codes_kib + 256
