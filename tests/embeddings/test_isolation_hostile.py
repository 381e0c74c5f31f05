"""Two thousand hostile files, and the good ones among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from embeddings.isolation import DecodeLimits, DecodePool
from embeddings.preprocess.build import build_preprocessor
from embeddings.preprocess.features import Features
from embeddings.preprocess.image import ImagePreprocessConfig
from embeddings.refused import REASONS, Refused
from tests.worlds.hostile_files import KINDS, hostile_files, is_valid

HALF = (0.5, 0.5, 0.5)
PREPROCESSING = ImagePreprocessConfig(size=64, resize_to=64, mean=HALF, std=HALF).model_dump_json()
N_FILES = 2000
MAX_BASE_MEMORY = 100 << 20
"""Of a worker with its libraries that has decoded nothing."""


def assert_within(pid: int, memory_bytes: int) -> None:
    """The kernel's own record of a worker, which may have just started or just died."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    peaks = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in status if line.endswith(" kB")}
    allowed = Path(f"/proc/{pid}/limits").read_text().split("Max address space")[1].split()[0]
    if "VmPeak" in peaks and allowed != "unlimited":
        assert peaks["VmPeak"] <= int(allowed)
        assert peaks["VmHWM"] <= memory_bytes + MAX_BASE_MEMORY


def test_the_same_seed_makes_the_same_files_and_each_kind() -> None:
    files = list(hostile_files(100, seed=3))
    assert files == list(hostile_files(100, seed=3))
    assert files != list(hostile_files(100, seed=4))
    assert {name.rpartition("-")[0] for name, _ in files} == set(KINDS)
    assert len({name for name, _ in files}) == 100


def test_of_two_thousand_hostile_files_every_good_one_is_decoded_and_every_other_one_ends_well() -> None:
    preprocess = build_preprocessor(PREPROCESSING, None)
    files = dict(hostile_files(N_FILES, seed=0))
    answers: dict[str, Features | Refused] = {}
    limits = DecodeLimits()
    with DecodePool(PREPROCESSING, workers=2, limits=limits) as pool:
        for name, answer in pool.map(files.items()):
            answers[name] = answer
            for pid in pool.worker_pids if len(answers) % 10 == 0 else ():
                assert_within(pid, limits.memory_bytes)
        statistics = pool.statistics

    assert list(answers) == list(files)
    usual = preprocess(next(content for name, content in files.items() if is_valid(name)))
    for name, content in files.items():
        answer = answers[name]
        if is_valid(name):
            assert not isinstance(answer, Refused), f"{name}: {answer}"
            np.testing.assert_array_equal(answer, preprocess(content), err_msg=name)
        elif isinstance(answer, Refused):
            assert answer.reason in REASONS
            assert str(answer)
        else:
            assert (answer.shape, answer.dtype) == (usual.shape, usual.dtype)
    n_refused = sum(isinstance(answer, Refused) for answer in answers.values())
    assert statistics.n_decoded + n_refused == N_FILES
    assert sum(statistics.n_refused.values()) == n_refused
